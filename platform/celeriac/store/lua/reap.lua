-- Return what nobody holds any more: expired leases go back to their group (or fail, when their
-- attempts are used up), waiting tasks past their expiry fail, and so do remote tasks past their deadline.
--
-- A server that was away could not be told that a worker lives: after a start of the server (another
-- run id than the one noted) leases are left alone until the grace has passed since the first call.
--
-- ARGV[4] most tasks to handle in this call, of each kind (count)   ARGV[5] that grace (ms), '0' for none
--
-- Returns {returned, failed, expired} (counts).

local returned, failed, expired = 0, 0, 0

local grace_ms, settled_ms = tonumber(ARGV[5]), 0
if grace_ms > 0 then
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local known = redis.call('HMGET', key.server, 'run_id', 'since_ms')
  if known[1] ~= run_id then
    known[2] = int(now_ms)
    redis.call('HSET', key.server, 'run_id', run_id, 'since_ms', known[2])
  end
  settled_ms = tonumber(known[2]) + grace_ms
end
local leases = now_ms < settled_ms and {} or redis.call('ZRANGEBYSCORE', key.leases, '-inf', int(now_ms), 'LIMIT', 0, ARGV[4])

for _, id in ipairs(leases) do
  local f = redis.call('HMGET', key.task(id), 'status', 'queue', 'attempt', 'attempts_allowed', 'cancel_requested', 'owner',
    'type', 'started_ms', 'delivery')
  if f[1] ~= 'PROCESSING' then
    redis.call('ZREM', key.leases, id)
  else
    local code, message = 'worker_lost', 'the worker ' .. (f[6] or '?') .. ' died or was cut off during attempt ' .. (f[3] or '?')
    if f[9] == 'remote' then code, message = 'worker_disconnected', 'Worker disconnected' end
    if take_back(id, f, code, message) == 'PENDING' then returned = returned + 1 else failed = failed + 1 end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.deadlines, '-inf', int(now_ms), 'LIMIT', 0, ARGV[4])) do
  if time_out(id) == 'FAILED' then expired = expired + 1 end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.expiring, '-inf', int(now_ms), 'LIMIT', 0, ARGV[4])) do
  local f = redis.call('HMGET', key.task(id), 'status', 'queue', 'attempt')
  redis.call('ZREM', key.expiring, id)
  if f[1] == 'PENDING' or f[1] == 'SCHEDULED' then
    settle(id, f[1], f[2], f[3], 'FAILED', false, {'expired', 'it was not started before it expired', '0'})
    expired = expired + 1
  end
end

return {returned, failed, expired}
