-- Accept submissions: write each record, its index, its event and its message, or nothing of it.
--
-- ARGV[4] life of an idempotency key (ms)   ARGV[5] most tasks that may wait for a time (count)
-- ARGV[6] most known groups that callers made (count)   ARGV[7] most known groups that one caller made (count)
-- ARGV[8..] 19 values per submission, '' if absent:
--   1 id (text)     2 type (text)     3 group (text)  4 payload (JSON object)   5 priority (0..9)
--   6 max_retries (count)             7 delay (ms)    8 run_at (ms since the epoch)
--   9 expires_in (ms)                10 expires_at (ms since the epoch)        11 timeout (ms)
--  12 user_id (text)                 13 metadata (JSON object)                 14 idempotency key (full Redis key)
--  15 waiting limit of the group (count)              16 delivery: '' celery, 'broker', 'external', 'remote'
--  17 further fields of the record (JSON object of texts)                      18 nonce of this call (text)
--  19 who makes the group if it is a new one (text), '' if it needs no room among the known groups
-- Four of the further fields are orders, which the record does not keep: slot_ms (the moment, in ms since the epoch, that a
-- definition's instance is for: its lateness is counted); for a remote task deadline_in_ms (it fails if it has not ended by
-- then), needs_worker '1' (refuse it if no worker is connected to its group), quiet '1' (wake nobody: the caller claims at
-- once).
--
-- Returns one array per submission: {'created', id, status} | {'known', id, status} | {'queue_full', limit} |
-- {'schedule_full', limit} | {'no_queue', group} (the key of that name is not a list) | {'no_worker', group} |
-- {'groups_full', limit, 'caller' or 'all'} (the group would be a new one) | {'no_record', id} (its key is not a hash).
-- A repeated call (same id, same nonce: the reply was lost) answers 'created' again.

local FIRST, WIDTH = 8, 19
local idempotency_ms, max_scheduled, max_groups, max_made = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local IS_ORDER = {slot_ms = true, deadline_in_ms = true, needs_worker = true, quiet = true}
local NOTHING = {}

-- Whether any of the ids was stored before this call: hardly ever, and one look at all of them tells.
local any_stored = (function()
  local records = {}
  for base = FIRST, #ARGV, WIDTH do records[#records + 1] = key.task(ARGV[base]) end
  return redis.call('EXISTS', unpack(records)) > 0
end)()
local stored_here = {}

-- Numbers for all of the batch, taken when the first is needed.
local seq
local function next_seq()
  seq = seq and seq + 1 or take_seq((#ARGV - FIRST + 1) / WIDTH)
  return seq
end

-- How many wait in an index, those of this batch included.
local waiting = setmetatable({}, {__index = function(memo, index)
  local count = redis.call('ZCARD', index)
  memo[index] = count
  return count
end})

-- The moment (ms since the epoch) that a submission gives as such or as a time from now, nil if it gives neither.
local function moment(at_ms, in_ms)
  return tonumber(at_ms) or (in_ms ~= '' and now_ms + tonumber(in_ms) or nil)
end

-- The answer to a submission whose idempotency key or id is known, else nil.
local function answer_of_known(id, nonce, idempotency_key)
  local first_id = idempotency_key ~= '' and redis.call('GET', idempotency_key)
  if first_id and first_id ~= id then
    local first = read(first_id, {'status'})
    -- The key outlives a pruned record: then the key speaks for no task, and the work is new.
    if first.status then return {'known', first_id, first.status} end
  end
  if any_stored or stored_here[id] then
    local t = read(id, {'status', 'nonce'})
    if t.status then return {t.nonce == nonce and 'created' or 'known', id, t.status} end
    local kind = redis.call('TYPE', key.task(id)).ok
    if kind ~= 'hash' and kind ~= 'none' then return {'no_record', id} end
  end
end

-- What `hint` looks at: one table for all, since a new one for each costs as much as a command.
local waiting_task = {attempt = '0'}

-- The fields of the record that is being built (name, value, ...), and how many there are.
local record, size
local function set(name, value)
  record[size + 1], record[size + 2] = name, value
  size = size + 2
end

return each(FIRST, WIDTH, function(id, task_type, group, payload, priority, max_retries, delay_ms, run_at_ms, expires_in_ms,
  expires_at_ms, timeout_ms, user, metadata, idempotency_key, waiting_limit, delivery, further, nonce, maker)
  local known = answer_of_known(id, nonce, idempotency_key)
  if known then return known end

  local index = waiting_of(group, delivery)
  further = further ~= '' and cjson.decode(further) or NOTHING
  local due = moment(run_at_ms, delay_ms)
  local scheduled = due and due > now_ms
  if scheduled and redis.call('ZCARD', key.delayed) >= max_scheduled then return {'schedule_full', int(max_scheduled)} end
  if further.needs_worker and redis.call('ZCOUNT', key.gateways(group), int(now_ms + 1), '+inf') == 0 then
    return {'no_worker', group}
  end
  if not scheduled and waiting[index] >= tonumber(waiting_limit) then return {'queue_full', waiting_limit} end
  local no_room = (scheduled or waiting[index] == 0) and answer_of_no_room(group, maker, max_groups, max_made)
  if no_room then return no_room end

  local status = scheduled and 'SCHEDULED' or 'PENDING'
  record = {
    'task_id', id, 'type', task_type, 'queue', group, 'payload', payload, 'nonce', nonce, 'status', status,
    'max_retries', max_retries, 'attempts_allowed', int(max_retries + 1), 'attempt', '0',
    'created_at', now_text, 'updated_at', now_text, 'rev', '1',
  }
  size = #record
  if priority ~= '0' then set('priority', priority) end
  if delivery ~= '' then set('delivery', delivery) end
  if timeout_ms ~= '' then set('timeout_ms', timeout_ms) end
  if user ~= '' then set('user_id', user) end
  if metadata ~= '' then set('metadata', metadata) end
  for name, value in pairs(further) do
    if not IS_ORDER[name] then set(name, value) end
  end
  if scheduled then
    set('run_at', rfc3339(due))
    redis.call('ZADD', key.delayed, int(due), id)
    count_delayed(group, 1)
    note_group(group, maker)
  else
    local number = next_seq()
    local score = waiting_score(tonumber(priority), false, number)
    local held = withheld(id, group, delivery, score)
    if not held and not further.quiet then
      waiting_task.id, waiting_task.type, waiting_task.queue, waiting_task.priority = id, task_type, group, priority
      waiting_task.delivery, waiting_task.payload = delivery, payload
      waiting_task.message, waiting_task.secret_fields = further.message, further.secret_fields
      -- The one step that may be refused: the key of the group's list may be somebody else's.
      if not hint(waiting_task, false, number) then return {'no_queue', group} end
    end
    set('pending_ms', now)
    set('hinted_ms', now)
    set('hints', held and '0' or '1')
    change('ZADD', index, score, id)
    -- If others wait already, the group is known.
    if waiting[index] == 0 then awaken(group, delivery, maker) end
    waiting[index] = waiting[index] + 1
  end
  local expires = moment(expires_at_ms, expires_in_ms)
  if expires then
    set('expires_ms', int(expires))
    set('expires_at', rfc3339(expires))
    redis.call('ZADD', key.expiring, int(expires), id)
  end
  if further.deadline_in_ms then
    local deadline = int(now_ms + tonumber(further.deadline_in_ms))
    set('deadline_ms', deadline)
    change('ZADD', key.deadlines, deadline, id)
  end
  redis.call('HSET', key.task(id), unpack(record))
  stored_here[id] = true
  if idempotency_key ~= '' then redis.call('SET', idempotency_key, id, 'PX', idempotency_ms) end
  if user ~= '' then change('ZADD', key.active(user), now, id) end
  count('s' .. SEP .. group .. SEP .. task_type, 1)
  if further.slot_ms then count_duration('d', SEP .. group, math.max(0, now_ms - tonumber(further.slot_ms))) end
  -- Nobody can be watching the task yet, so nobody is woken.
  append(id, user, '1', 'status', 'status', status, 'attempt', '0', 'type', task_type, 'queue', group)
  return {'created', id, status}
end)
