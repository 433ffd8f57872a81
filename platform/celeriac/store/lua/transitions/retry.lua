-- Run a failed or cancelled task again: FAILED | CANCELLED -> PENDING with its attempts granted anew.
-- One whose record has left the store is put back first, from what the caller holds of it.
--
-- ARGV[4] id (text)   ARGV[5] waiting limit of its group (count)   ARGV[6] nonce of this call (text)
-- ARGV[7] another payload (JSON object), '' for the one it has
-- ARGV[8] the revision that the record must be at (count), '' for any
-- ARGV[9] the record to put back (JSON object of texts), '' for none
-- ARGV[10] paths of the secrets in that other payload (separated by line breaks), '' for those that the record has
-- ARGV[11] who makes its group if that is not known any more (text), '' if it needs no room among the known groups
-- ARGV[12] most known groups that callers made (count)   ARGV[13] most known groups that one caller made (count)
--
-- Returns the status before | 'queue_full' | 'changed' (it has another revision) | 'celery' (plain Celery published it, and its
-- arguments are in its message: it takes no other payload) | 'notified' (a program of its own ran it, see notify.lua) | '' (no
-- such task) | 'groups_full all' | 'groups_full caller' (its group would be a new one). A repeated call (same nonce: the reply was lost) answers 'FAILED'.

local id, waiting_limit, nonce, payload = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local rev, record, secret_fields = ARGV[8], ARGV[9], ARGV[10]
local maker, max_groups, max_made = ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])
local task = key.task(id)

local t = read(id, {'status', 'queue', 'attempt', 'max_retries', 'nonce', 'rev', 'message', 'notified', 'delivery', 'user_id'})
local kept = not t.status and record ~= '' and cjson.decode(record)
if kept then
  kept.nonce = nil
  t = kept
end
local status = t.status
if not status then return '' end
if t.nonce == nonce then return 'FAILED' end
if rev ~= '' and tonumber(t.rev or 0) ~= tonumber(rev) then return 'changed' end
if status ~= 'FAILED' and status ~= 'CANCELLED' then return status end
if payload ~= '' and t.message then return 'celery' end
if t.notified then return 'notified' end
if redis.call('ZCARD', waiting_of(t.queue, t.delivery)) >= waiting_limit then return 'queue_full' end
local no_room = answer_of_no_room(t.queue, maker, max_groups, max_made)
if no_room then return 'groups_full ' .. no_room[3] end

if kept then
  for name, value in pairs(kept) do redis.call('HSET', task, name, value) end
end
redis.call('PERSIST', task)
redis.call('PERSIST', key.task_events(id))
redis.call('PERSIST', key.log(id))
redis.call('HDEL', task, 'finished_at', 'cancel_requested', 'error_code', 'error_message', 'error_retryable', 'expires_ms',
  'expires_at', 'run_at', 'owner', 'fence', 'percentage', 'stage', 'message_text', 'timestamp_ms', 'deadline_ms', 'reply_to')
redis.call('HSET', task, 'nonce', nonce, 'attempts_allowed', int(tonumber(t.attempt or 0) + 1 + tonumber(t.max_retries or 0)))
if payload ~= '' then redis.call('HSET', task, 'payload', payload) end
if secret_fields ~= '' then redis.call('HSET', task, 'secret_fields', secret_fields) end
note_active(t.user_id, id)
note_group(t.queue, maker)
enqueue(id, false)
return status
