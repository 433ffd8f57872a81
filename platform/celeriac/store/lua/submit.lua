-- Accept submissions: write each record, its index, its event and its message, or nothing of it.
--
-- ARGV[4] life of an idempotency key (ms)   ARGV[5] most tasks that may wait for a time (count)
-- ARGV[6..] 18 values per submission, '' where absent:
--   1 id            2 type            3 group         4 payload (JSON object)   5 priority 0..9
--   6 max_retries   7 delay_ms        8 run_at_ms     9 expires_in_ms          10 expires_at_ms
--  11 timeout_ms   12 user_id        13 metadata (JSON object)   14 idempotency key (full Redis key)
--  15 waiting limit of the group (count)   16 delivery ('' celery, 'broker', 'external', 'remote')
--  17 further fields of the record (JSON object of texts)       18 nonce of this call
-- Four of the further fields are orders, which the record does not keep: slot_ms (the moment (ms) that a definition's
-- instance is for, by which its lateness is counted); for a remote task deadline_in_ms (it fails when it has not ended by
-- then), needs_worker '1' (refuse it if no worker is connected to its group), quiet '1' (wake nobody: the caller claims at
-- once).
--
-- Returns one array per submission: {'created', id, status} | {'known', id, status} |
-- {'queue_full', limit} | {'schedule_full', limit} | {'no_queue', group} (the key of that name is no list) |
-- {'no_worker', group}.
-- A repeated call (same id, same nonce: the reply was lost) answers 'created' again.

local FIRST, WIDTH = 6, 18
local now = int(now_ms)

local function present(v) return v ~= '' and v or nil end

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

local IS_ORDER = {slot_ms = true, deadline_in_ms = true, needs_worker = true, quiet = true}
local NOTHING = {}

-- The answer to a submission whose idempotency key or id is known, else nil.
local function answer_of_known(id, nonce, idempotency_key)
  local first_id = idempotency_key and redis.call('GET', idempotency_key)
  if first_id and first_id ~= id then
    local status = redis.call('HGET', key.task(first_id), 'status')
    -- The key outlives a pruned record: then the key speaks for nobody, and the work is new.
    if status then return {'known', first_id, status} end
  end
  if any_stored or stored_here[id] then
    local stored = redis.call('HMGET', key.task(id), 'status', 'nonce')
    if stored[1] then return {stored[2] == nonce and 'created' or 'known', id, stored[1]} end
  end
end

return each(FIRST, WIDTH, function(base)
  local id, task_type, group, payload = ARGV[base], ARGV[base + 1], ARGV[base + 2], ARGV[base + 3]
  local priority = tonumber(ARGV[base + 4])
  local idempotency_key, limit, delivery = present(ARGV[base + 13]), tonumber(ARGV[base + 14]), ARGV[base + 15]
  local nonce = ARGV[base + 17]
  local known = answer_of_known(id, nonce, idempotency_key)
  if known then return known end

  local index = waiting_of(group, delivery)
  local further = ARGV[base + 16] ~= '' and cjson.decode(ARGV[base + 16]) or NOTHING

  local due = tonumber(ARGV[base + 7]) or (present(ARGV[base + 6]) and now_ms + tonumber(ARGV[base + 6]))
  local scheduled = due and due > now_ms
  if scheduled and redis.call('ZCARD', key.delayed) >= tonumber(ARGV[5]) then return {'schedule_full', ARGV[5]} end
  if further.needs_worker and redis.call('ZCOUNT', key.gateways(group), int(now_ms + 1), '+inf') == 0 then
    return {'no_worker', group}
  end
  if not scheduled and waiting[index] >= limit then return {'queue_full', int(limit)} end

  local status = scheduled and 'SCHEDULED' or 'PENDING'
  local fields = {
    'task_id', id, 'type', task_type, 'queue', group, 'payload', payload, 'nonce', nonce, 'status', status,
    'max_retries', ARGV[base + 5], 'attempts_allowed', int(ARGV[base + 5] + 1), 'attempt', '0',
    'created_at', now_text, 'updated_at', now_text, 'rev', '1',
  }
  local size = #fields
  local function set(name, value)
    fields[size + 1], fields[size + 2] = name, value
    size = size + 2
  end
  if priority ~= 0 then set('priority', int(priority)) end
  if delivery ~= '' then set('delivery', delivery) end
  if ARGV[base + 10] ~= '' then set('timeout_ms', ARGV[base + 10]) end
  local user = ARGV[base + 11]
  user_of[id] = user
  if user ~= '' then set('user_id', user) end
  if ARGV[base + 12] ~= '' then set('metadata', ARGV[base + 12]) end
  for name, value in pairs(further) do
    if not IS_ORDER[name] then set(name, value) end
  end
  if scheduled then
    set('run_at', rfc3339(due))
    redis.call('ZADD', key.delayed, int(due), id)
  else
    local number = next_seq()
    local score = waiting_score(priority, false, number)
    local held = withheld(id, group, delivery, score)
    -- The one step that may be refused: the key of the group's list may be somebody else's.
    if not held and not further.quiet
      and not hint(id, task_type, group, priority, delivery, 0, false, further.message, payload, further.secret_fields, number) then
      return {'no_queue', group}
    end
    set('pending_ms', now)
    set('hinted_ms', now)
    set('hints', held and '0' or '1')
    change('ZADD', index, score, id)
    -- Where others wait already, the group is known.
    if waiting[index] == 0 then redis.call('SADD', key.groups, group) end
    waiting[index] = waiting[index] + 1
  end
  local expires = tonumber(ARGV[base + 9]) or (present(ARGV[base + 8]) and now_ms + tonumber(ARGV[base + 8]))
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
  redis.call('HSET', key.task(id), unpack(fields))
  stored_here[id] = true
  if idempotency_key then redis.call('SET', idempotency_key, id, 'PX', ARGV[4]) end
  if user ~= '' then change('ZADD', key.active(user), now, id) end
  -- Nobody can be watching the task yet, so nobody is woken.
  count('s' .. SEP .. group .. SEP .. task_type, 1)
  if further.slot_ms then count_duration('d', SEP .. group, math.max(0, now_ms - tonumber(further.slot_ms))) end
  append(id, '1', 'status', 'status', status, 'attempt', '0', 'type', task_type, 'queue', group)
  return {'created', id, status}
end)
