-- Hold a role that one process has at a time, or let it go. (No shared part: it changes no task.)
--
-- KEYS[1] the role   ARGV[1] who asks (text)   ARGV[2] for how long (ms), 0 = let go
--
-- Returns 1 where the one who asks holds it now, else 0.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
