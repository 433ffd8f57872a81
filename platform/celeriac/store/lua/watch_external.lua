-- Follow what foreign programs wrote into the records of tasks that were handed to them (docs/task-service.md): note
-- the change in the indexes, emit its event, and give what has ended its retention.
--
-- What a record said before is told by the indexes: a task is among the running, or among the waiting.
--
-- ARGV[4] tasks to look at from the oldest on (count)
-- ARGV[5] where to begin with as many others (rank in the set of watched tasks, from 0)
--
-- Returns {changes seen (count), tasks watched (count)}.

local limit, offset = tonumber(ARGV[4]), tonumber(ARGV[5])
local changes = 0

local function done_with(id, group)
  redis.call('ZREM', key.watched, id)
  redis.call('ZREM', key.waiting(group), id)
  if redis.call('ZREM', key.running(group), id) == 1 then vacate(group) end
end

local function follow(id)
  local task = key.task(id)
  local f = redis.call('HMGET', task, 'status', 'queue', 'attempt', 'delivery', 'finished_at', 'result', 'result_file_path',
    'error_code', 'error_message')
  local group = f[2] or 'default'
  local status, attempt = f[1] and string.upper(f[1]), tonumber(f[3] or 0)
  if not status or f[4] ~= 'external' then
    done_with(id, group)
    return
  end
  local running = redis.call('ZSCORE', key.running(group), id)
  local before = running and 'PROCESSING' or 'PENDING'
  if status == before then return end

  if status == 'PENDING' then
    redis.call('ZREM', key.running(group), id)
    vacate(group)
    redis.call('ZADD', key.waiting(group), waiting_score(0, true, take_seq(1)), id)
    redis.call('HSET', task, 'updated_at', now_text)
    emit(id, 'status', 'status', 'PENDING', 'attempt', int(attempt))
  elseif status == 'PROCESSING' then
    redis.call('ZREM', key.waiting(group), id)
    redis.call('ZREM', key.expiring, id)
    redis.call('ZADD', key.running(group), int(now_ms), id)
    redis.call('HSET', task, 'attempt', int(attempt + 1), 'owner', 'external', 'started_at', now_text, 'started_ms', int(now_ms), 'updated_at', now_text)
    emit(id, 'status', 'status', 'PROCESSING', 'attempt', int(attempt + 1), 'worker', 'external')
  elseif status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' then
    -- One that the life cycle itself ended (cancelled while it waited) has its end already.
    if not f[5] then
      redis.call('ZREM', key.waiting(group), id)
      if not running then attempt = attempt + 1 end
      redis.call('HSET', task, 'attempt', int(attempt), 'owner', 'external')
      if status == 'COMPLETED' then
        local result = f[6]
        if not result and f[7] then result = cjson.encode({result_file_path = f[7]}) end
        settle(id, before, group, int(attempt), status, result or 'null')
      else
        local code = f[8] or (status == 'FAILED' and 'failed' or 'cancelled')
        settle(id, before, group, int(attempt), status, false, {code, f[9] or '', '0'})
      end
    end
    done_with(id, group)
  else
    -- SCHEDULED and RETRYING are ours: it waits for its time and is handed over again then.
    if status == 'SCHEDULED' or status == 'RETRYING' then done_with(id, group) end
    return
  end
  changes = changes + 1
end

for _, id in ipairs(redis.call('ZRANGE', key.watched, 0, limit - 1)) do follow(id) end
if offset >= limit then
  for _, id in ipairs(redis.call('ZRANGE', key.watched, offset, offset + limit - 1)) do follow(id) end
end

return {changes, redis.call('ZCARD', key.watched)}
