-- Give a running task back unharmed (warm shutdown): PROCESSING -> PENDING at the front; the attempt does not count.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)
--
-- Returns the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same answer.

local id, fence = ARGV[4], ARGV[5]
local task = key.task(id)

local t = read(id, {'fence', 'cancel_requested', 'nonce', 'expires_ms', unpack(FIELDS_OF_AN_END)})
if t.nonce == fence then return 'PENDING' end
if t.status == 'CANCELLED' and t.fence == fence then return 'CANCELLED' end
if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
if t.cancel_requested then
  settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
  return 'CANCELLED'
end
unindex(t)
local attempt = tonumber(t.attempt) - 1
redis.call('HSET', task, 'attempt', int(attempt), 'nonce', fence)
-- Its first start did not happen, so that may be too late again.
if t.expires_ms and attempt == 0 then redis.call('ZADD', key.expiring, t.expires_ms, id) end
-- The next run has the same number, and counts its reports and parts from the beginning.
redis.call('HDEL', task, 'owner', 'fence', 'started_at', 'started_ms', 'progress_seq', 'delta_seq', 'delta_bytes')
enqueue(id, true)
return 'PENDING'
