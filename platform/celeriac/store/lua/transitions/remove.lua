-- Remove the record of a task that has ended, its events, its log, its steps and its signals.
--
-- ARGV[4] id (text)   ARGV[5] the user whose task it must be (text)
--
-- Returns 'ok' | its status, if it has not ended | 'depended:STATUS' (a task that has not ended depends on it) | '' (there is no
-- such task, or it is another user's).

local id, user = ARGV[4], ARGV[5]

local t = read(id, {'status', 'user_id', 'dependants'})
if not t.status or t.user_id ~= user then return '' end
if not is_final(t.status) then return t.status end
if tonumber(t.dependants or 0) > 0 then return 'depended:' .. t.status end
redis.call('ZREM', key.recent(user), id)
redis.call('DEL', key.task(id), key.task_events(id), key.log(id), key.steps(id), key.signals(id))
return 'ok'
