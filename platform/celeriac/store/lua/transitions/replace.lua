-- Put another call in the place of a task (Celery's `replace()`): any status but COMPLETED and CANCELLED -> PENDING | SCHEDULED,
-- with the attempts of the new call. Only for tasks that Celery's workers run. An attempt that runs has ended with this; its worker may not know it yet. A task that has
-- failed meanwhile goes on, because what it waited for has come.
--
-- ARGV[4] id (text)   ARGV[5] how many calls had this id before (count): a task is not replaced by an earlier call again
-- ARGV[6] nonce of this call (text)   ARGV[7] group (text)   ARGV[8] max_retries (count)
-- ARGV[9] delay (ms)   ARGV[10] run_at (ms since the epoch)   ARGV[11] expires_in (ms)
-- ARGV[12] expires_at (ms since the epoch); these four are '' if absent
-- ARGV[13] fields of the record that the new call has (JSON object of texts), its type among them
-- ARGV[14] the Celery message that the record keeps (JSON), '' for none
--
-- Returns {'created', status} (also to a repeated call: the reply was lost) | {'known', status} (nothing changes) | {'unknown', ''}
-- (no such task).

local id, number, nonce, group, max_retries = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], tonumber(ARGV[8])
local due, expires, further = moment(ARGV[10], ARGV[9]), moment(ARGV[12], ARGV[11]), cjson.decode(ARGV[13])
local message, task = ARGV[14], key.task(ARGV[4])

local t = read(id, {'moved', 'replacement', 'cancel_requested', unpack(FIELDS_OF_AN_END)})
local status = t.status
if not status then return {'unknown', ''} end
if t.moved == nonce then return {'created', status} end
if t.delivery and t.delivery ~= 'broker' then return {'known', status} end
if status == 'COMPLETED' or status == 'CANCELLED' or number <= tonumber(t.replacement or 0) then return {'known', status} end
if t.cancel_requested then
  settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
  return {'known', 'CANCELLED'}
end
if status == 'PROCESSING' and t.started_ms then
  count_duration('r', SEP .. t.queue .. SEP .. (t.type or ''), now_ms - t.started_ms)
end
unindex(t)
end_turn(t)
redis.call('ZREM', key.expiring, id)
redis.call('HSET', task, 'moved', nonce, 'replacement', int(number))
return {'created', take_over(t, {
  group = group, max_retries = max_retries, due = due, expires = expires, further = further, message = message,
}, 'replaced_by', further.type)}
