-- Run a failed or cancelled task again: FAILED | CANCELLED -> PENDING with its attempts granted anew.
-- One whose record has left the store is put back first, from what the caller holds of it.
--
-- ARGV[4] id   ARGV[5] waiting limit of its group (count)   ARGV[6] nonce of this call
-- ARGV[7] another payload (JSON object), '' for the one it has
-- ARGV[8] the revision that the record must be at (see emit), '' for any
-- ARGV[9] the record to put back (JSON array: name, value, ...), '' for none
-- ARGV[10] paths of the secrets in that other payload (separated by line breaks), '' for those that the record has
--
-- Returns the status before, 'queue_full', 'changed' (another revision), 'celery' (plain Celery published
-- it, its arguments are in its message: no other payload), 'notified' (a program of its own ran it, see notify.lua), or
-- '' when there is no such task. A repeated call (same nonce: the reply was lost) answers 'FAILED'.

local id, payload, rev, record, secret_fields = ARGV[4], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local task = key.task(id)

local function facts()
  return redis.call('HMGET', task, 'status', 'queue', 'attempt', 'max_retries', 'nonce', 'rev', 'message', 'notified', 'delivery')
end

local f = facts()
local absent = not f[1]
if absent then
  if record == '' then return '' end
  local fields = {}
  record = cjson.decode(record)
  for i = 1, #record, 2 do fields[record[i]] = record[i + 1] end
  f = {fields.status, fields.queue, fields.attempt, fields.max_retries, false, fields.rev, fields.message or false,
    fields.notified or false, fields.delivery}
end
local status = f[1]
if f[5] == ARGV[6] then return 'FAILED' end
if rev ~= '' and tonumber(f[6] or 0) ~= tonumber(rev) then return 'changed' end
if status ~= 'FAILED' and status ~= 'CANCELLED' then return status end
if payload ~= '' and f[7] then return 'celery' end
if f[8] then return 'notified' end
if redis.call('ZCARD', waiting_of(f[2], f[9])) >= tonumber(ARGV[5]) then return 'queue_full' end

if absent then redis.call('HSET', task, unpack(record)) end
redis.call('PERSIST', task)
redis.call('PERSIST', key.task_events(id))
redis.call('PERSIST', key.log(id))
redis.call('HDEL', task, 'finished_at', 'cancel_requested', 'error_code', 'error_message', 'error_retryable', 'expires_ms',
  'expires_at', 'run_at', 'owner', 'fence', 'percentage', 'stage', 'message_text', 'timestamp_ms', 'deadline_ms', 'reply_to')
redis.call('HSET', task, 'nonce', ARGV[6], 'attempts_allowed', int(tonumber(f[3] or 0) + 1 + tonumber(f[4] or 0)))
if payload ~= '' then redis.call('HSET', task, 'payload', payload) end
if secret_fields ~= '' then redis.call('HSET', task, 'secret_fields', secret_fields) end
note_active(user_of[id], id)
enqueue(id, false)
return status
