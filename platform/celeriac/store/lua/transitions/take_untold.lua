-- Take ended tasks of which Celery is to be told. Who takes one has it for the time of a lease; then anybody may take it again.
--
-- ARGV[4] most tasks to take (count)   ARGV[5] lease (ms)
--
-- Returns one array per task: {id, end of the lease (ms since the epoch, text)}.

local most, lease_ms = ARGV[4], tonumber(ARGV[5])
local lease_until, taken = int(now_ms + lease_ms), {}

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.untold, '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZADD', key.untold, lease_until, id)
  taken[#taken + 1] = {id, lease_until}
end
return taken
