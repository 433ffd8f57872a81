-- Give a running task back unharmed (warm shutdown): PROCESSING -> PENDING at the front; the attempt does not count. One that has
-- kept steps or signals goes on as the same attempt.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)
--
-- Returns the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same answer.

local id, fence = ARGV[4], ARGV[5]
local task = key.task(id)

local t = read(id, {'fence', 'cancel_requested', 'moved', 'expires_ms', 'attempts_before', unpack(FIELDS_OF_AN_END)})
if t.moved == fence then return 'PENDING' end
local other = ended_otherwise(t, fence)
if other then return other end
if t.revoked then
  settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
  return 'CANCELLED'
end
unindex(t)
redis.call('HSET', task, 'moved', fence, 'redelivered', t.attempt)
if t.noted then
  redis.call('HSET', task, 'resumes', int(math.max(0, now_ms - tonumber(t.started_ms or now))))
else
  local attempt = tonumber(t.attempt) - 1
  redis.call('HSET', task, 'attempt', int(attempt))
  -- Its first start did not happen, so that may be too late again.
  if t.expires_ms and attempt == tonumber(t.attempts_before or 0) then redis.call('ZADD', key.expiring, t.expires_ms, id) end
end
-- The next run has the same number, and counts its reports and parts from the beginning.
redis.call('HDEL', task, 'owner', 'fence', 'started_at', 'started_ms', 'progress_seq', 'delta_seq', 'delta_bytes')
enqueue(id, true)
return 'PENDING'
