-- Have a worker take no more tasks, or take tasks again. What it has taken runs to its end.
--
-- ARGV[4] worker id (text)   ARGV[5] '1' = take no more, '' = take tasks again
--
-- Returns 'ok' | 'unknown' (no such worker runs) | 'cannot' (a worker of this kind does not obey).

local worker, wanted = ARGV[4], ARGV[5]
local presence = key.worker(worker)

local drains, started_ms = unpack(redis.call('HMGET', presence, 'drains', 'started_ms'))
if not started_ms then return 'unknown' end
if drains ~= '1' then return 'cannot' end
-- It is said to this process. One that is started later under the same id takes tasks.
if wanted == '1' then
  redis.call('HSET', presence, 'drain', started_ms)
else
  redis.call('HDEL', presence, 'drain')
end
redis.call('PUBLISH', key.drains, worker)
return 'ok'
