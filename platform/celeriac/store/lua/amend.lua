-- Change what the next attempts of a running task get (Celery's `retry()` with other arguments).
--
-- ARGV[4] id   ARGV[5] fence   ARGV[6] payload (JSON object)   ARGV[7] body of its message (base64)
-- ARGV[8] attempts allowed (count)   ARGV[9] retries of those (count)
--
-- Returns 'ok' | 'stale:STATUS'.

local task = key.task(ARGV[4])
local f = redis.call('HMGET', task, 'status', 'fence', 'message')
if f[1] ~= 'PROCESSING' or f[2] ~= ARGV[5] then return 'stale:' .. (f[1] or '') end
redis.call('HSET', task, 'payload', ARGV[6], 'attempts_allowed', ARGV[8], 'max_retries', ARGV[9])
if f[3] then
  -- Base64 has neither quotes nor what means something in a replacement.
  redis.call('HSET', task, 'message', (string.gsub(f[3], '"body": ?"[^"]*"', '"body": "' .. ARGV[7] .. '"', 1)))
end
return 'ok'
