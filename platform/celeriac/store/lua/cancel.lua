-- Cancel a task: at once while it waits; while it runs, leave a mark and wake its worker.
--
-- ARGV[4] id   ARGV[5] message; empty: what its attempts tell
--
-- Returns {status before, status after}; {'' , ''} when there is no such task.

local id = ARGV[4]
local task = key.task(id)
local f = redis.call('HMGET', task, 'status', 'queue', 'attempt', 'cancel_requested', 'delivery')
local status = f[1]
if not status then return {'', ''} end
if status == 'PROCESSING' then
  if not f[4] then redis.call('HSET', task, 'cancel_requested', now_text, 'updated_at', now_text) end
  redis.call('PUBLISH', key.cancels, id)
  return {status, status}
end
if status == 'SCHEDULED' or status == 'PENDING' or status == 'RETRYING' then
  if f[5] == 'external' then redis.call('LREM', key.external, 0, id) end
  local message = ARGV[5]
  if message == '' then
    local ran = (tonumber(f[3]) or 0) > 0
    message = ran and 'cancelled while it waited for its next attempt' or 'cancelled before it ran'
  end
  settle(id, status, f[2], f[3], 'CANCELLED', false, {'cancelled', message, '0'})
  return {status, 'CANCELLED'}
end
return {status, status}
