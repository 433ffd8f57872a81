-- End a running attempt that replaced its task (Celery's `replace()`), and wait for the last part of what takes its place, which
-- will have the task's id: PROCESSING -> SCHEDULED. If that has come already, the attempt has ended with it, see replace.lua. If it
-- is known by now that it will not come: PROCESSING -> FAILED, see fail_replaced.lua.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)   ARGV[6] name of what takes its place (text)
-- ARGV[7] how long to wait until the task fails (ms)
--
-- Returns the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same answer.

local id, fence, name, most_ms = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local task = key.task(id)

local t = read(id, {'fence', 'cancel_requested', 'moved', 'error_code', 'unreached', unpack(FIELDS_OF_AN_END)})
local moved = 'replaced ' .. fence
if t.moved == moved then return t.status end
local other = ended_otherwise(t, fence)
if other then return other end
local unreached = t.unreached and t.unreached:sub(1, #fence + 1) == fence .. SEP and t.unreached:sub(#fence + 2)
if t.unreached then redis.call('HDEL', task, 'unreached') end
if unreached then
  settle(t, 'FAILED', false, {'replacement_failed', unreached, '0'}, true)
  return 'stale:FAILED'
end
life.write_out(t)
unindex(t)
-- What takes its place may have the same key.
end_turn(t)
if t.started_ms then count_duration('r', SEP .. t.queue .. SEP .. (t.type or ''), now_ms - t.started_ms) end
delay(id, t.queue, 'SCHEDULED', now_ms + most_ms)
-- When it runs depends on others, so it has no such moment.
redis.call('HDEL', task, 'run_at', 'owner', 'fence', 'error_code', 'error_message', 'error_retryable')
redis.call('HSET', task, 'replaced_by', name, 'moved', moved)
emit(id, t.user_id, 'status', 'status', 'SCHEDULED', 'attempt', t.attempt, 'replaced_by', name)
return 'SCHEDULED'
