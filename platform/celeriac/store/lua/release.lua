-- Give a running task back unharmed (warm shutdown): PROCESSING -> PENDING at the front; the attempt does not count.
--
-- ARGV[4] id   ARGV[5] fence
--
-- Returns the new status | 'stale:STATUS'. A repeated call gets the same answer.

local id = ARGV[4]
local task = key.task(id)
local f = redis.call('HMGET', task, 'status', 'fence', 'queue', 'attempt', 'cancel_requested', 'nonce', 'expires_ms')
if f[6] == ARGV[5] then return 'PENDING' end
if f[1] == 'CANCELLED' and f[2] == ARGV[5] then return 'CANCELLED' end
if f[1] ~= 'PROCESSING' or f[2] ~= ARGV[5] then return 'stale:' .. (f[1] or '') end
if f[5] then
  settle(id, f[1], f[3], f[4], 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
  return 'CANCELLED'
end
unindex(id, f[1], f[3])
local attempt = tonumber(f[4]) - 1
redis.call('HSET', task, 'attempt', int(attempt), 'nonce', ARGV[5])
-- Its first start did not happen, so that may be too late again.
if f[7] and attempt == 0 then redis.call('ZADD', key.expiring, f[7], id) end
-- The next run has the same number, and counts its reports and parts from the beginning.
redis.call('HDEL', task, 'owner', 'fence', 'started_at', 'started_ms', 'progress_seq', 'delta_seq', 'delta_bytes')
enqueue(id, true)
return 'PENDING'
