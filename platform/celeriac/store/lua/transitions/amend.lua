-- Change what the next attempts of a running task get (Celery's `retry()` with other arguments).
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)   ARGV[6] payload (JSON object)
-- ARGV[7] body of its Celery message (base64)   ARGV[8] attempts allowed (count)   ARGV[9] retries of those (count)
--
-- Returns 'ok' | 'stale:STATUS' (it is not this claim's any more).

local id, fence, payload, body = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local attempts_allowed, max_retries = ARGV[8], ARGV[9]
local task = key.task(id)

local status, holder, message = fields(id, 'status', 'fence', 'message')
if status ~= 'PROCESSING' or holder ~= fence then return 'stale:' .. (status or '') end
redis.call('HSET', task, 'payload', payload, 'attempts_allowed', attempts_allowed, 'max_retries', max_retries)
if message then
  -- Base64 has neither quotes nor what means something in a replacement.
  redis.call('HSET', task, 'message', (string.gsub(message, '"body": ?"[^"]*"', '"body": "' .. body .. '"', 1)))
end
return 'ok'
