-- Run the id of an ended task once more, for another call that has it (a fixed `task_id` of Celery): COMPLETED | FAILED |
-- CANCELLED -> PENDING | SCHEDULED. While an attempt runs, the record notes the call, which begins when the task has ended: one
-- at most. A task that waits takes no further call. Only for tasks that Celery's workers run and that are nobody's.
--
-- ARGV[4] id (text)   ARGV[5] nonce of the publication (text): one that comes again has the same
-- ARGV[6] group (text)   ARGV[7] max_retries (count)
-- ARGV[8] delay (ms)   ARGV[9] run_at (ms since the epoch)   ARGV[10] expires_in (ms)
-- ARGV[11] expires_at (ms since the epoch); these four are '' if absent
-- ARGV[12] fields of the record that the call has (JSON object of texts), its type among them
-- ARGV[13] the Celery message that the record keeps (JSON), '' for none
--
-- Returns {'created', status} (also to a repeated call) | {'known', status} (nothing changes) | {'unknown', ''} (no such task).

local id, nonce, group, max_retries, due = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), moment(ARGV[9], ARGV[8])
local expires, further, message = moment(ARGV[11], ARGV[10]), cjson.decode(ARGV[12]), ARGV[13]

local t = read(id, {'nonce', 'cancel_requested', 'notified', 'next_call', unpack(FIELDS_OF_AN_END)})
local status = t.status
if not status then return {'unknown', ''} end
if t.nonce == nonce then return {'created', status} end
if t.notified or t.user_id or t.depends_on or t.once or (t.delivery and t.delivery ~= 'broker') then return {'known', status} end

local call = {
  nonce = nonce, group = group, max_retries = max_retries, due = due, expires = expires, further = further, message = message,
}
if is_final(status) then return {'created', begin_again(t, call)} end
if status ~= 'PROCESSING' or t.cancel_requested then return {'known', status} end
if t.next_call then return {cjson.decode(t.next_call).nonce == nonce and 'created' or 'known', status} end
redis.call('HSET', key.task(id), 'next_call', cjson.encode(call))
return {'created', status}
