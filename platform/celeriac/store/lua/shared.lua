-- Put in front of every transition: keys, time, events, and the moves that several of them share.
--
-- ARGV[1] five limits, joined by commas: events to keep of a task (count), messages to keep of a user's feed
--         (count), life of a feed after its last message (ms), ended tasks to keep in a user's index (count), lines to
--         keep of a task's log (count)
-- ARGV[2] entries to keep in the global stream (count)
-- ARGV[3] retention of what is final (ms), where the record has none of its own
-- further ARGV: see each script
--
-- Keys are built here from ids (mirrored in keys.py; a test compares them), so scripts declare no
-- KEYS. That rules out Redis Cluster, as kombu's transport already does.

local max_task_events, max_feed, feed_ttl_ms, max_recent, max_log = string.match(ARGV[1], '^(%d+),(%d+),(%d+),(%d+),(%d+)$')
local max_global_events, retention_ms = ARGV[2], tonumber(ARGV[3])

local key = {
  events = 'celeriac:events',
  seq = 'celeriac:seq',
  groups = 'celeriac:groups',
  leases = 'celeriac:leases',
  delayed = 'celeriac:delayed',
  expiring = 'celeriac:expiring',
  workers = 'celeriac:workers',
  server = 'celeriac:server',
  types = 'celeriac:types',
  ledger = 'celeriac:ledger',
  ledger_resync = 'celeriac:ledger:resync',
  cancels = 'celeriac:cancels',
  external = 'task:pending',
  outbox = 'celeriac:outbox',
  watched = 'celeriac:external',
  counts = 'celeriac:counts',
  deadlines = 'celeriac:deadlines',
  models = 'celeriac:models',
  mirror = 'celeriac:mirror',
  paused = 'celeriac:paused',
  resuming = 'celeriac:resuming',
  limits = 'celeriac:limits',
  limits_due = 'celeriac:limits:due',
}
function key.task(id) return 'task:' .. id end
function key.task_events(id) return 'celeriac:events:' .. id end
function key.live(id) return 'celeriac:live:' .. id end
function key.log(id) return 'celeriac:log:' .. id end
function key.live_log(id) return 'celeriac:live-log:' .. id end
function key.waiting(group) return 'celeriac:waiting:' .. group end
function key.running(group) return 'celeriac:running:' .. group end
function key.group(group) return 'celeriac:group:' .. group end
function key.worker(id) return 'celeriac:worker:' .. id end
function key.feed(user) return 'celeriac:feed:' .. user end
function key.active(user) return 'celeriac:active:' .. user end
function key.recent(user) return 'celeriac:recent:' .. user end
function key.remote(group) return 'celeriac:remote:' .. group end
function key.remote_wake(group) return 'celeriac:remote-wake:' .. group end
function key.limited(group) return 'celeriac:limited:' .. group end
function key.gateways(group) return 'celeriac:gateways:' .. group end
function key.granted(gateway) return 'celeriac:granted:' .. gateway end
function key.replies(process) return 'celeriac:replies:' .. process end

-- The index in which a task of this delivery waits: remote workers have one of their own in each group.
local function waiting_of(group, delivery)
  return delivery == 'remote' and key.remote(group) or key.waiting(group)
end

-- The server's clock decides, read once per script.
local now_ms = (function()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end)()

local format = string.format
local function int(n) return format('%.0f', n) end

-- Milliseconds since the epoch -> RFC 3339 in UTC. Days to civil date after H. Hinnant,
-- "chrono-compatible low-level date algorithms" (days_from_civil and back).
local function rfc3339(ms)
  local s = math.floor(ms / 1000)
  local z = math.floor(s / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local sod = s % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(sod / 3600), math.floor(sod / 60) % 60, sod % 60, ms % 1000)
end

local now_text = rfc3339(now_ms)

-- Calling a command costs more than most commands do. So what a batch changes in an index or pushes to a list is
-- gathered, and written as one command per key at its end. A batch never both adds and removes the same member.
local gathered
local function change(command, k, ...)
  if not gathered then return redis.call(command, k, ...) end
  local by_key = gathered[command]
  local args = by_key[k]
  if not args then
    args = {}
    by_key[k] = args
  end
  for i = 1, select('#', ...) do args[#args + 1] = (select(i, ...)) end
end

-- Count what happened (see counts.py): the field is a short name and labels, separated by a unit separator. The hash has a
-- limit, since names of groups are the callers': what has no field by then is not counted.
local MAX_COUNTS, SEP = 20000, '\31'
local counted
local function write_count(field, number)
  if redis.call('HINCRBY', key.counts, field, number) == number and redis.call('HLEN', key.counts) > MAX_COUNTS then
    redis.call('HDEL', key.counts, field)
  end
end
local function count(field, number)
  if not counted then return write_count(field, number) end
  counted[field] = (counted[field] or 0) + number
end

-- Count a duration (ms) as 'w' (waited), 'r' (ran) or 'd' (a firing was late), in the bucket of counts.py that it falls into.
local BUCKETS_MS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000}
local function count_duration(what, labels, ms)
  local bucket = 0
  while bucket < #BUCKETS_MS and ms > BUCKETS_MS[bucket + 1] do bucket = bucket + 1 end
  count(what .. int(bucket) .. labels, 1)
  count(what .. 's' .. labels, ms)
end

-- Count the start of an attempt of a task that has waited since `pending_ms`.
local function count_start(group, task_type, pending_ms)
  count('a' .. SEP .. group .. SEP .. task_type, 1)
  count_duration('w', SEP .. group, now_ms - (pending_ms or now_ms))
end

-- Count an attempt that ended and is not the last one: 'y' is to be retried, 'l' lost its worker.
local function count_lost_attempt(what, group, task_type, started_ms)
  local labels = SEP .. group .. SEP .. (task_type or '')
  count(what .. labels, 1)
  if started_ms then count_duration('r', labels, now_ms - started_ms) end
end

-- What a batch granted of limited groups, and how many tasks left them (see admit and vacate): group -> count.
local granted_here, left_here = {}, {}
local let_go

-- Handle a batch: the items of `width` arguments each from ARGV[first] on. Returns their replies, which are what
-- `handle(base)` returns. `finish()`, where given, is called when all are handled, before what was gathered is written.
-- Where an item fails, the ones before it are written as a whole before the error goes out.
local function each(first, width, handle, finish)
  gathered, counted = {ZADD = {}, ZREM = {}, LPUSH = {}}, {}
  local replies, failure = {}, nil
  for base = first, #ARGV, width do
    local ok, reply = pcall(handle, base)
    if not ok then
      failure = reply
      break
    end
    replies[#replies + 1] = reply
  end
  if finish then
    local ok, reply = pcall(finish)
    if not ok then failure = failure or reply end
  end
  for command, by_key in pairs(gathered) do
    for k, args in pairs(by_key) do
      local reply = redis.pcall(command, k, unpack(args))
      if type(reply) == 'table' and reply.err then failure = failure or reply end
    end
  end
  for field, number in pairs(counted) do write_count(field, number) end
  gathered, counted = nil, nil
  for group, left in pairs(left_here) do let_go(group, left) end
  if failure then error(failure, 0) end
  return replies
end

-- Take `count` numbers of the sequence that all that waits is ordered by; returns the first.
local function take_seq(count) return redis.call('INCRBY', key.seq, count) - count + 1 end

-- Whose task it is, '' where it is nobody's. What has read the record anyway says so here first
-- (`user_of[id] = f[n] or ''`); for the others it is looked up.
local user_of = setmetatable({}, {__index = function(memo, id)
  local user = redis.call('HGET', key.task(id), 'user_id') or ''
  memo[id] = user
  return user
end})

-- Tell a user's feed of an event, and wake whoever follows the feed.
local function tell(user, id, event, kind, ...)
  local feed = key.feed(user)
  redis.call('XADD', feed, 'MAXLEN', '~', max_feed, '*', 'task_id', id, 'event', event, 'kind', kind, ...)
  redis.call('PEXPIRE', feed, feed_ttl_ms)
  redis.call('PUBLISH', feed, '')
end

-- A user's task has not ended (yet, or again).
local function note_active(user, id)
  if user == '' then return end
  redis.call('ZADD', key.active(user), 'NX', int(now_ms), id)
  redis.call('ZREM', key.recent(user), id)
end

-- A user's task has ended, and its record stays for `kept_ms`.
local function note_ended(user, id, kept_ms)
  if user == '' then return end
  local recent = key.recent(user)
  redis.call('ZREM', key.active(user), id)
  redis.call('ZADD', recent, int(now_ms), id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -max_recent - 1)
  if redis.call('PTTL', recent) < tonumber(kept_ms) then redis.call('PEXPIRE', recent, kept_ms) end
end

-- Append to the task's stream, the global one and its user's feed. Returns the entry's id in the task's.
-- `rev` counts the changes of the record, this one included: of two states of a task the higher one is the later
-- one. The global entry carries it, and as `event` the id that the event has in the task's stream.
local function append(id, rev, kind, ...)
  local entry = redis.call('XADD', key.task_events(id), 'MAXLEN', '~', max_task_events, '*', 'kind', kind, ...)
  redis.call('XADD', key.events, 'MAXLEN', '~', max_global_events, '*', 'task_id', id, 'rev', rev, 'event', entry, 'kind', kind, ...)
  local user = user_of[id]
  if user ~= '' then tell(user, id, entry, kind, ...) end
  return entry
end

-- The revision after `rev`, as HMGET returns it (false where a foreign program wrote the record).
local function next_rev(rev) return int(tonumber(rev or 0) + 1) end

-- Append an event whose revision the caller has written, and wake whoever watches the task.
local function emit_as(id, rev, kind, ...)
  redis.call('PUBLISH', key.live(id), append(id, rev, kind, ...))
end

-- Count the record's revision up, append an event and wake whoever watches the task.
local function emit(id, kind, ...)
  emit_as(id, redis.call('HINCRBY', key.task(id), 'rev', 1), kind, ...)
end

-- One Celery message, protocol v2, in the envelope that kombu's Redis transport reads. The body is
-- empty: the worker gets the payload with its claim. A task that Celery itself published keeps its
-- own envelope in the record's field `message`.
local EMPTY_BODY = 'W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsLCAiZXJyYmFja3MiOiBudWxsLCAiY2hhaW4iOiBudWxsLCAiY2hvcmQiOiBudWxsfV0='
local json_of = setmetatable({}, {__index = function(memo, text)
  local json = cjson.encode(text)
  memo[text] = json
  return json
end})
local function celery_message(id, task_type, group, celery_priority, retries, summary, seq)
  local id_json = cjson.encode(id)
  return '{"body":"' .. EMPTY_BODY
    .. '","content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py","task":' .. json_of[task_type]
    .. ',"id":' .. id_json
    .. ',"shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":' .. retries
    .. ',"timelimit":[null,null],"root_id":' .. id_json
    .. ',"parent_id":null,"argsrepr":"()","kwargsrepr":' .. cjson.encode(summary)
    .. ',"origin":"celeriac","ignore_result":true,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{},"celeriac":1},'
    .. '"properties":{"correlation_id":' .. id_json
    .. ',"reply_to":"","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":' .. json_of[group]
    .. '},"priority":' .. celery_priority .. ',"body_encoding":"base64","delivery_tag":'
    .. string.sub(id_json, 1, -2) .. ':' .. int(seq) .. '"}}'
end

-- kombu's lists of a queue: Redis serves 0 first, in steps of 3; ours is 0..9, higher is sooner.
local function list_step(priority) return math.floor((9 - priority) / 3) * 3 end
local function celery_list(group, priority)
  local step = list_step(priority)
  return step == 0 and group or group .. '\6\22' .. int(step)
end

-- At most 200 plain characters of the payload, for people who look at the message in Flower; nothing of one with secrets.
local function summary_of(payload, secret_fields)
  -- A space ahead is how records had it that were written before they had the field secret_fields.
  if secret_fields or string.byte(payload) == 32 then return '***' end
  local start = string.sub(payload, 1, 200)
  return string.find(start, '[\128-\255]') and (string.gsub(start, '[\128-\255]', '?')) or start
end

-- The Celery message of a task: its own, if Celery published it, else one of ours. `seq` makes its delivery unique.
local function message_of(id, task_type, group, priority, attempt, message, payload, secret_fields, seq)
  if message then return (string.gsub(message, '"retries": ?%d+', '"retries": ' .. int(attempt), 1)) end
  return celery_message(id, task_type, group, int(9 - priority), int(attempt), summary_of(payload or '', secret_fields), seq)
end

-- Push to a list at the end that is read next (`front`) or last; false when the key holds something else.
local is_list = {}
local function push(list, value, front)
  if gathered and not front then
    if is_list[list] == nil then
      local kind = redis.call('TYPE', list).ok
      is_list[list] = kind == 'list' or kind == 'none'
    end
    if is_list[list] then change('LPUSH', list, value) end
    return is_list[list]
  end
  local reply = redis.pcall(front and 'RPUSH' or 'LPUSH', list, value)
  if type(reply) ~= 'table' or not reply.err then return true end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return false end
  return error(reply.err)
end

-- Wake the gateways that hold remote workers of a group: once in a script, whose changes they all see afterwards.
local woken = {}
local function wake(group)
  if not woken[group] then
    woken[group] = true
    redis.call('PUBLISH', key.remote_wake(group), group)
  end
end

-- Score in the waiting index: a band of 1e12 per priority, the higher one first; in it the order of
-- arrival, counted up from the middle. What is put in front counts down from there.
local BAND, MIDDLE = 1e12, 5e11
local function waiting_score(priority, front, seq)
  return int((9 - priority) * BAND + MIDDLE + (front and -seq or seq))
end

-- Whether a group is paused, looked up once per script; one look tells when none is paused or limited, as nearly always.
local any_held
local function none_held()
  if any_held == nil then any_held = redis.call('EXISTS', key.paused, key.resuming, key.limits) > 0 end
  return not any_held
end
local paused = setmetatable({}, {__index = function(memo, group)
  local held = not none_held() and redis.call('HEXISTS', key.paused, group) == 1
  memo[group] = held
  return held
end})

-- Whether a task of this score is to be told nobody yet: its group is paused, or resume.lua, which goes through all
-- that waits, has not come to it: then it would overtake others.
local resumed_to = setmetatable({}, {__index = function(memo, group)
  local score = redis.call('HGET', key.resuming, group)
  memo[group] = score and tonumber(score) or math.huge
  return memo[group]
end})
local function held_back(group, score)
  if none_held() then return false end
  return paused[group] or tonumber(score) > resumed_to[group]
end

-- Limits of a group across all its workers. While it is at one of them, its waiting tasks have no message: they are in
-- the sorted set key.limited(group), by their waiting score. Each place that becomes free sends one message, of the
-- first of them. So while any is in the set, either no place is free, or as many messages are out as places are, or
-- the group is in key.limits_due, at the time when its rate lets the next one start. (One message too many is
-- harmless: its claim is refused.)

-- What a group is limited to, false where nothing is set: `max_running` (count, nil without); with a rate `every`, the
-- ms from one start to the next, and `early`, the ms by which one may be ahead of that, so that what came late is made
-- up for.
local limits = setmetatable({}, {__index = function(memo, group)
  local text = not none_held() and redis.call('HGET', key.limits, group)
  local set = text and cjson.decode(text) or false
  if set and set.rate then
    set.early = math.min(set.per_ms / 20, 100)
    -- So that `rate` and one more never start within `per_ms`. In 1/1024 ms: then no sum of them is rounded.
    set.every = math.ceil((set.per_ms + set.early) / set.rate * 1024) / 1024
  end
  memo[group] = set
  return set
end})

-- How many more tasks may run. External programs ask nobody, so it may be less than none.
local function free_places(group, set)
  if not set.max_running then return math.huge end
  return set.max_running - redis.call('ZCARD', key.running(group)) - (gathered and granted_here[group] or 0)
end

-- How many may start now by the rate, and the time (ms) that the next start is counted from.
-- The generic cell rate algorithm as virtual scheduling (ITU-T I.371, annex A), whose "theoretical arrival time" is kept.
local function free_starts(group, set)
  if not set.every then return math.huge end
  local next_start = math.max(tonumber(redis.call('HGET', key.group(group), 'next_start_ms') or 0), now_ms)
  -- Further ahead than it can be: the rate was lower then, or the clock was set back.
  if next_start > now_ms + set.early + set.every then next_start = now_ms end
  local early = now_ms + set.early - next_start
  return early >= 0 and math.floor(early / set.every) + 1 or 0, next_start
end

-- Have promote.lua look at the group at this time (ms), or earlier where that is noted.
local function look_at(group, at) redis.call('ZADD', key.limits_due, 'LT', int(math.ceil(at)), group) end

-- Whether one more task of the group may start now; if so, it counts as started.
local function admit(group)
  local set = limits[group]
  if not set then return true end
  if free_places(group, set) <= 0 then return false end
  local starts, next_start = free_starts(group, set)
  if starts == 0 then
    look_at(group, next_start - set.early)
    return false
  end
  if set.every then redis.call('HSET', key.group(group), 'next_start_ms', format('%.10f', next_start + set.every)) end
  granted_here[group] = (granted_here[group] or 0) + 1
  return true
end

-- Whether a task of this delivery and score that comes to wait is to be told nobody yet: it is held back, or its group is
-- at a limit.
local function withheld(id, group, delivery, score)
  if none_held() then return false end
  if held_back(group, score) then return true end
  local set = limits[group]
  if not set or (delivery ~= '' and delivery ~= 'broker') then return false end
  if free_places(group, set) > 0 then
    local starts, next_start = free_starts(group, set)
    if starts > 0 then return false end
    look_at(group, next_start - set.early)
  end
  change('ZADD', key.limited(group), score, id)
  return true
end

-- A task has left the waiting or the running ones of its group: another one may be let go.
local function vacate(group)
  if not limits[group] then return end
  if gathered then
    left_here[group] = (left_here[group] or 0) + 1
  else
    let_go(group, 1)
  end
end

-- Tell the group's executors of a waiting task. `front`: before all others of its priority.
-- Returns false when that was impossible: a submission is refused then; for a task that is stored it is a
-- lost message like any other.
local function hint(id, task_type, group, priority, delivery, attempt, front, message, payload, secret_fields, seq)
  if delivery == 'external' then
    if not push(key.external, id, front) then return false end
    -- From now on a foreign program may write the record: watch_external.lua looks at it.
    redis.call('ZADD', key.watched, 'NX', int(now_ms), id)
    return true
  elseif delivery == 'broker' then
    return push(key.outbox, id, front)
  elseif delivery == 'remote' then
    wake(group)
  elseif delivery == '' then
    return push(celery_list(group, priority), message_of(id, task_type, group, priority, attempt, message, payload, secret_fields, seq), front)
  end
  return true
end

-- Messages of a limited group that one script sends at most; promote.lua goes on where there are more to send.
local MOST_LET_GO = 500

-- Send messages of the first `most` tasks that a limit of the group holds, as far as there is room; wake its remote
-- workers. Returns their ids, in order.
function let_go(group, most)
  local set, going = limits[group], {}
  -- resume.lua comes here again.
  if not set or paused[group] then return going end
  local room = math.min(most, MOST_LET_GO, free_places(group, set))
  if room <= 0 then return going end
  local starts, next_start = free_starts(group, set)
  local remote = redis.call('ZCARD', key.remote(group)) > 0
  if remote and starts > 0 then wake(group) end

  local held, facts = key.limited(group), {}
  if set.every then
    -- Where workers are slower than the rate, messages lie in their lists; more in front of those would turn the order round.
    for step = 0, 9, 3 do
      local out = redis.pcall('LLEN', celery_list(group, 9 - step))
      starts = starts - (type(out) == 'number' and out or 0)
    end
  end
  room = math.min(room, starts)
  while #going < room do
    local ids = redis.call('ZPOPMIN', held, int(room - #going))
    if #ids == 0 then break end
    for i = 1, #ids, 2 do
      local f = redis.call('HMGET', key.task(ids[i]), 'status', 'type', 'priority', 'delivery', 'attempt', 'message', 'payload', 'secret_fields')
      if f[1] == 'PENDING' then
        going[#going + 1] = ids[i]
        facts[#going] = f
      end
    end
  end
  -- Backwards: what is put in front last is taken first.
  for i = #going, 1, -1 do
    local id, f = going[i], facts[i]
    redis.call('HSET', key.task(id), 'hinted_ms', int(now_ms))
    redis.call('HINCRBY', key.task(id), 'hints', 1)
    hint(id, f[2], group, tonumber(f[3] or 0), f[4] or '', tonumber(f[5] or 0), true, f[6], f[7], f[8], take_seq(1))
  end

  local left = redis.call('EXISTS', held) == 1
  if set.every and (left or remote) and #going == starts then
    look_at(group, next_start + #going * set.every - set.early)
  elseif left and #going == MOST_LET_GO then
    look_at(group, now_ms)
  end
  return going
end

-- Move a stored task to PENDING and hint it. Returns nothing; the caller has checked the status.
-- `hints` counts the messages that may be out: one more with each sent, one less with each that came to a claim.
local function enqueue(id, front)
  local f = redis.call('HMGET', key.task(id), 'type', 'queue', 'priority', 'delivery', 'attempt', 'message', 'payload', 'hints', 'user_id',
    'secret_fields')
  user_of[id] = f[9] or ''
  local priority, attempt, seq = tonumber(f[3] or 0), tonumber(f[5] or 0), take_seq(1)
  local score = waiting_score(priority, front, seq)
  local held = withheld(id, f[2], f[4] or '', score)
  redis.call('ZADD', waiting_of(f[2], f[4]), score, id)
  redis.call('SADD', key.groups, f[2])
  redis.call('HSET', key.task(id), 'status', 'PENDING', 'updated_at', now_text, 'pending_ms', int(now_ms),
    'hinted_ms', int(now_ms), 'hints', int(tonumber(f[8] or 0) + (held and 0 or 1)))
  if not held then hint(id, f[1], f[2], priority, f[4] or '', attempt, front, f[6], f[7], f[10], seq) end
  emit(id, 'status', 'status', 'PENDING', 'attempt', int(attempt))
end

-- Take a task out of every index that its present status puts it in.
local function unindex(id, status, group)
  if status == 'PENDING' then
    change('ZREM', waiting_of(group, redis.call('HGET', key.task(id), 'delivery')), id)
    if limits[group] then change('ZREM', key.limited(group), id) end
    vacate(group)
  elseif status == 'PROCESSING' then
    change('ZREM', key.leases, id)
    change('ZREM', key.running(group), id)
    vacate(group)
  elseif status == 'SCHEDULED' or status == 'RETRYING' then
    change('ZREM', key.delayed, id)
  end
end

-- Tell the process that waits for a task how it ended: 'ID\nSTATUS\nCODE\nTEXT', TEXT being the result (JSON) or the
-- message. A result too large to be sent around is left to be read: its CODE is 'large'.
local function notice(channel, id, status, result, failure)
  local code, text = '', result
  if failure then
    code, text = failure[1], failure[2]
  elseif #result > 65536 then
    code, text = 'large', ''
  end
  redis.call('PUBLISH', channel, id .. '\n' .. status .. '\n' .. code .. '\n' .. text)
end

-- Give a task its final status. Its indexes are gone afterwards and its retention runs.
-- Either `result` is JSON text and `failure` nil, or `failure` is {code, message, retryable '0'|'1'}.
-- `facts` are the record's fields rev, retention_ms, user_id, type, started_ms, delivery, reply_to and log_seq, where the
-- caller has them.
local function settle(id, from, group, attempt, status, result, failure, facts)
  local task = key.task(id)
  facts = facts or redis.call('HMGET', task, 'rev', 'retention_ms', 'user_id', 'type', 'started_ms', 'delivery', 'reply_to', 'log_seq')
  user_of[id] = facts[3] or ''
  local labels = SEP .. group .. SEP .. (facts[4] or '')
  count('f' .. labels .. SEP .. status, 1)
  if from == 'PROCESSING' and facts[5] then count_duration('r', labels, now_ms - facts[5]) end
  local rev, kept_ms = next_rev(facts[1]), facts[2] or int(retention_ms)
  unindex(id, from, group)
  -- What has started is not among what may expire any more.
  if from ~= 'PROCESSING' then change('ZREM', key.expiring, id) end
  if failure then
    redis.call('HSET', task, 'status', status, 'updated_at', now_text, 'finished_at', now_text, 'rev', rev,
      'error_code', failure[1], 'error_message', failure[2], 'error_retryable', failure[3])
    emit_as(id, rev, 'status', 'status', status, 'attempt', attempt, 'code', failure[1], 'message', failure[2], 'retryable', failure[3])
  else
    redis.call('HSET', task, 'status', status, 'updated_at', now_text, 'finished_at', now_text, 'rev', rev, 'result', result)
    emit_as(id, rev, 'status', 'status', status, 'attempt', attempt)
  end
  note_ended(user_of[id], id, kept_ms)
  redis.call('PEXPIRE', task, kept_ms)
  redis.call('PEXPIRE', key.task_events(id), kept_ms)
  if facts[8] then redis.call('PEXPIRE', key.log(id), kept_ms) end
  if facts[6] == 'remote' then
    change('ZREM', key.deadlines, id)
    if facts[7] then notice(facts[7], id, status, result, failure) end
  end
end

-- Say in a task's log why an attempt failed whose worker cannot say it.
local function log_failure(id, attempt, level, code, message)
  if max_log == '0' then return end
  redis.call('HSETNX', key.task(id), 'log_seq', '0 -')
  redis.call('XADD', key.log(id), 'MAXLEN', max_log, '*', 'level', level, 'message', 'attempt failed',
    'data', cjson.encode({code = code, error = message}), 'timestamp_ms', int(now_ms), 'attempt', attempt)
  redis.call('PUBLISH', key.live_log(id), '')
end

-- Take a running task from whoever has it: back to the front of its group while attempts are left, else FAILED;
-- CANCELLED if somebody asked for that. `f`: status, queue, attempt, attempts_allowed, cancel_requested, fence or owner,
-- type, started_ms.
-- Returns the new status.
local function take_back(id, f, code, message)
  if f[5] then
    settle(id, f[1], f[2], f[3], 'CANCELLED', false, {'cancelled', 'cancelled; ' .. message, '0'})
    return 'CANCELLED'
  end
  local again = tonumber(f[3]) < tonumber(f[4])
  log_failure(id, f[3], again and 'warning' or 'error', code, message)
  if again then
    count_lost_attempt('l', f[2], f[7], f[8])
    unindex(id, f[1], f[2])
    redis.call('HSET', key.task(id), 'error_code', code, 'error_message', message, 'error_retryable', '1')
    redis.call('HDEL', key.task(id), 'owner', 'fence')
    enqueue(id, true)
    return 'PENDING'
  end
  count('l' .. SEP .. f[2] .. SEP .. (f[7] or ''), 1)
  settle(id, f[1], f[2], f[3], 'FAILED', false, {code, message, '1'})
  return 'FAILED'
end

-- End a task whose deadline has passed, whatever it is doing, and tell who runs it. Returns its status, '' without one.
local function time_out(id)
  local f = redis.call('HMGET', key.task(id), 'status', 'queue', 'attempt')
  local status = f[1]
  if not status or status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' then
    change('ZREM', key.deadlines, id)
    return status or ''
  end
  if status == 'PROCESSING' then
    redis.call('PUBLISH', key.cancels, id)
    log_failure(id, f[3], 'error', 'timeout', 'Task timeout')
  end
  settle(id, status, f[2], f[3], 'FAILED', false, {'timeout', 'Task timeout', '0'})
  return 'FAILED'
end

-- Put a task to sleep until `due_ms`, as SCHEDULED or RETRYING.
local function delay(id, status, due_ms)
  redis.call('ZADD', key.delayed, int(due_ms), id)
  redis.call('HSET', key.task(id), 'status', status, 'updated_at', now_text, 'run_at', rfc3339(due_ms))
end
