-- Follow what foreign programs wrote into the records of tasks that were handed to them (docs/task-service.md): note
-- the change in the indexes, emit its event, and give what has ended its retention.
--
-- The indexes tell what a record said before: a task is among the running, or among the waiting.
--
-- ARGV[4] tasks to look at, from the oldest on (count)
-- ARGV[5] where to begin with as many others (rank in the set of watched tasks, from 0)
--
-- Returns {changes seen (count), tasks watched (count)}.

local limit, offset = tonumber(ARGV[4]), tonumber(ARGV[5])
local changes = 0

-- FIELDS_OF_A_START, FIELDS_OF_AN_END and what the program writes.
local FIELDS = {'expires_ms', 'run_at', 'pending_ms', 'resumes', 'finished_at', 'result', 'result_file_path', 'error_code', 'error_message',
  unpack(FIELDS_OF_AN_END)}

local function done_with(t)
  redis.call('ZREM', key.watched, t.id)
  redis.call('ZREM', key.waiting(t.queue), t.id)
  if redis.call('ZSCORE', key.running(t.queue), t.id) then leave_running(t) end
  let_others_go()
end

-- The program took the task.
local function began(t)
  redis.call('ZREM', key.waiting(t.queue), t.id)
  start(t, 'external', false)
end

-- The program gave the task back.
local function returned(t)
  local id, queue = t.id, t.queue
  leave_running(t)
  redis.call('ZADD', key.waiting(queue), waiting_score(0, true, take_seq(1)), id)
  redis.call('HSET', key.task(id), 'updated_at', now_text(), 'pending_ms', now)
  emit(id, t.user_id, 'status', 'status', 'PENDING', 'attempt', int(tonumber(t.attempt or 0)))
  let_others_go()
end

-- The program ended the task.
local function ended(t, status)
  if t.status == 'PENDING' then
    -- It started too since the last look; when, is not known.
    redis.call('ZREM', key.waiting(t.queue), t.id)
    t.attempt = int(tonumber(t.attempt or 0) + 1)
    count_started(t.queue, t.type or '')
  end
  redis.call('HSET', key.task(t.id), 'attempt', t.attempt, 'owner', 'external')
  if status == 'COMPLETED' then
    local result = t.result
    if not result and t.result_file_path then result = cjson.encode({result_file_path = t.result_file_path}) end
    settle(t, status, result or 'null')
  else
    local code = t.error_code or (status == 'FAILED' and 'failed' or 'cancelled')
    settle(t, status, false, {code, t.error_message or '', '0'})
  end
end

local function follow(id)
  local t = read(id, FIELDS)
  t.queue = t.queue or 'default'
  local status = t.status and string.upper(t.status)
  if not status or t.delivery ~= 'external' then
    done_with(t)
    return
  end
  t.status = redis.call('ZSCORE', key.running(t.queue), id) and 'PROCESSING' or 'PENDING'
  if status == t.status then return end

  if status == 'PENDING' then
    returned(t)
  elseif status == 'PROCESSING' then
    began(t)
  elseif is_final(status) then
    -- One that the life cycle itself ended (cancelled while it waited) has its end already.
    if not t.finished_at then ended(t, status) end
    done_with(t)
  else
    -- These are ours: it waits for its time, or for other tasks, and is handed over again then.
    if status == 'SCHEDULED' or status == 'RETRYING' or status == 'WAITING' then done_with(t) end
    return
  end
  changes = changes + 1
end

for _, id in ipairs(redis.call('ZRANGE', key.watched, 0, limit - 1)) do follow(id) end
if offset >= limit then
  for _, id in ipairs(redis.call('ZRANGE', key.watched, offset, offset + limit - 1)) do follow(id) end
end

return {changes, redis.call('ZCARD', key.watched)}
