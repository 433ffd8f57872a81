-- Cancel a task: at once while it waits; while it runs, leave a mark and wake its worker.
--
-- ARGV[4] id (text)   ARGV[5] message (text), '' for one that says whether the task has run before
--
-- Returns {status before, status after}; {'', ''} if there is no such task.

local id, message = ARGV[4], ARGV[5]

local t = read(id, {'cancel_requested', unpack(FIELDS_OF_AN_END)})
local status = t.status
if not status then return {'', ''} end
if status == 'PROCESSING' then
  if not t.cancel_requested then redis.call('HSET', key.task(id), 'cancel_requested', now_text, 'updated_at', now_text) end
  redis.call('PUBLISH', key.cancels, id)
  return {status, status}
end
if status == 'SCHEDULED' or status == 'PENDING' or status == 'RETRYING' then
  if t.delivery == 'external' then redis.call('LREM', key.external, 0, id) end
  if message == '' then
    local ran = (tonumber(t.attempt) or 0) > 0
    message = ran and 'cancelled while it waited for its next attempt' or 'cancelled before it ran'
  end
  settle(t, 'CANCELLED', false, {'cancelled', message, '0'})
  return {status, 'CANCELLED'}
end
return {status, status}
