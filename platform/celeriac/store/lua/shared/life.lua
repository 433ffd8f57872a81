-- Short records: what the usual life of a task needs of its record, and how a record is written out in full.
--
-- A task that is accepted, starts once and ends has three events, and its record can say them. So the record has the field `life`
-- in place of what follows from it, and the task has no stream of its own. Any other event, and any other change of what `life` says,
-- first writes the record out: all fields, and the same events with the same ids in key.task_events(id).
--
-- `life` is the moment at which the task was accepted (ms since the epoch), then, separated by spaces, 's' and the moment of its
-- start, and 'c' (COMPLETED), 'f' (FAILED) or 'x' (CANCELLED) and that of its end, both in ms after the first. Behind each moment
-- comes ':' and the id of the event; only the number behind its '-' if the rest is the moment, and nothing if that number is 0.
-- `store/life.py` reads it, too.

-- What is known of lives; each function is described below.
local life = {}

do
  local LETTER_OF = {COMPLETED = 'c', FAILED = 'f', CANCELLED = 'x'}
  local STATUS_OF = {c = 'COMPLETED', f = 'FAILED', x = 'CANCELLED'}

  -- The moments of a life: a list of {ms, id of the event, letter}, with `start` and `finish` naming those two, if there are any.
  local function moments_of(text)
    local moments = {}
    for letter, ms, id in string.gmatch(text, '(%l?)(-?%d+):?([%d-]*)') do
      ms = tonumber(ms) + (moments[1] and moments[1].ms or 0)
      if id == '' then id = '0' end
      if not string.find(id, '-', 1, true) then id = int(ms) .. '-' .. id end
      local moment = {ms = ms, id = id, letter = letter}
      moments[#moments + 1] = moment
      if letter == 's' then moments.start = moment elseif letter ~= '' then moments.finish = moment end
    end
    return moments
  end

  -- What a life says of the fields that a short record does not have.
  local SAYS = {
    task_id = function(_, t) return t.id end,
    attempt = function(moments) return moments.start and '1' or '0' end,
    attempts_allowed = function(_, t)
      local max_retries = rawget(t, 'max_retries')
      if max_retries == nil then max_retries = redis.call('HGET', key.task(t.id), 'max_retries') end
      return int((tonumber(max_retries) or 0) + 1)
    end,
    rev = function(moments) return int(#moments) end,
    created_at = function(moments) return rfc3339(moments[1].ms) end,
    updated_at = function(moments) return rfc3339(moments[#moments].ms) end,
    started_at = function(moments) return moments.start and rfc3339(moments.start.ms) end,
    finished_at = function(moments) return moments.finish and rfc3339(moments.finish.ms) end,
    pending_ms = function(moments) return int(moments[1].ms) end,
    hinted_ms = function(moments) return int(moments[1].ms) end,
    started_ms = function(moments) return moments.start and int(moments.start.ms) end,
    hints = function(moments) return moments.start and '0' or '1' end,
  }
  local SAID, WRITTEN = {}, {'type', 'queue', 'owner', 'error_code', 'error_message', 'error_retryable', 'max_retries'}
  for name in pairs(SAYS) do
    SAID[#SAID + 1] = name
    WRITTEN[#WRITTEN + 1] = name
  end

  -- Set those of these fields that the record does not have and its life says. `t`: id, life and these fields
  function life.fill(t, names)
    local moments
    for i = 1, #names do
      local name = names[i]
      if not t[name] and SAYS[name] then
        moments = moments or moments_of(t.life)
        t[name] = SAYS[name](moments, t) or false
      end
    end
  end

  -- What a life that has begun says, for the scripts that run most often: when the task was accepted and when it started (ms, text),
  -- nil if it has not, and how many events it has (count).
  function life.known(text)
    local accepted, started = string.match(text, '^(%d+)[%d:-]*'), string.match(text, ' s(-?%d+)')
    local _, spaces = string.gsub(text, ' ', '')
    return accepted, started and int(accepted + started), spaces + 1
  end

  -- A moment of this call, whose event has this id in the global stream. `since`: when the task was accepted (ms), '' if it is that.
  local function moment(since, entry)
    local tail = string.sub(entry, 1, #now + 1) == now .. '-' and string.sub(entry, #now + 2) or entry
    return (since == '' and now or int(now_ms - since)) .. (tail == '0' and '' or ':' .. tail)
  end

  -- The life of a task that is accepted now.
  function life.begun(entry) return moment('', entry) end

  -- A life to which a start or an end is added: its status, and the event's id.
  function life.after(text, status, entry)
    return text .. ' ' .. (LETTER_OF[status] or 's') .. moment(string.match(text, '^%d+'), entry)
  end

  -- Whether a start, or an end, may be added: a short record begins with the task's acceptance and ends with its end.
  function life.may_start(text) return text and not string.find(text, ' ', 1, true) end
  function life.may_end(text) return text and not string.find(text, '[cfx]') end

  -- Write a record out in full, if it is short. `known`: id; its life is false afterwards, so that what goes on with it knows.
  function life.write_out(known)
    local id = known.id
    local task, stream = key.task(id), key.task_events(id)
    known.life = false
    local text = redis.call('HGET', task, 'life')
    if not text then return end
    local values, t, written = redis.call('HMGET', task, unpack(WRITTEN)), {id = id, life = text}, {}
    for i, name in ipairs(WRITTEN) do t[name] = values[i] end
    life.fill(t, SAID)
    for _, name in ipairs(SAID) do
      if t[name] then
        written[#written + 1] = name
        written[#written + 1] = t[name]
      end
    end
    redis.call('HSET', task, unpack(written))
    redis.call('HDEL', task, 'life')
    local moments = moments_of(text)
    local function add(moment, ...)
      redis.call('XADD', stream, 'MAXLEN', '~', max_task_events, moment.id, 'kind', 'status', 'status', ...)
    end
    add(moments[1], 'PENDING', 'attempt', '0', 'type', t.type or '', 'queue', t.queue or '')
    if moments.start then add(moments.start, 'PROCESSING', 'attempt', '1', 'worker', t.owner or '') end
    if moments.finish then
      local status, attempt = STATUS_OF[moments.finish.letter], moments.start and '1' or '0'
      if status == 'COMPLETED' then
        add(moments.finish, status, 'attempt', attempt)
      else
        add(moments.finish, status, 'attempt', attempt, 'code', t.error_code or '', 'message', t.error_message or '',
          'retryable', t.error_retryable or '0')
      end
    end
    local kept_ms = redis.call('PTTL', task)
    if kept_ms > 0 then redis.call('PEXPIRE', stream, kept_ms) end
  end

  -- Count the messages of a task that may be out up or down by this number.
  function life.count_hint(id, number)
    local hints, text = unpack(redis.call('HMGET', key.task(id), 'hints', 'life'))
    if text and not hints then hints = SAYS.hints(moments_of(text)) end
    redis.call('HSET', key.task(id), 'hints', int(tonumber(hints or 0) + number))
  end
end
