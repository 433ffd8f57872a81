-- Hold a role that one process has at a time, or let it go.
--
-- KEYS[1] the role (string)   ARGV[1] the process that asks (text)   ARGV[2] for how long (ms), '0' = let it go
--
-- Returns 1 if the process that asks holds it now, else 0.

local role, process, hold_ms = KEYS[1], ARGV[1], ARGV[2]

local holder = redis.call('GET', role)
if holder and holder ~= process then return 0 end
if hold_ms == '0' then
  redis.call('DEL', role)
  return 0
end
redis.call('SET', role, process, 'PX', hold_ms)
return 1
