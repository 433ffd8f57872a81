-- Remove the record of a task that has ended, its events and its log.
--
-- ARGV[4] id   ARGV[5] the user whose task it must be
--
-- Returns 'ok' | its status, where it has not ended | '' (no such task, or another user's).

local id = ARGV[4]
local f = redis.call('HMGET', key.task(id), 'status', 'user_id')
if not f[1] or f[2] ~= ARGV[5] then return '' end
if f[1] ~= 'COMPLETED' and f[1] ~= 'FAILED' and f[1] ~= 'CANCELLED' then return f[1] end
redis.call('ZREM', key.recent(f[2]), id)
redis.call('DEL', key.task(id), key.task_events(id), key.log(id))
return 'ok'
