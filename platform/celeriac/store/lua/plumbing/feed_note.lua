-- Note how far a resynchronisation has come.
--
-- KEYS[1] the recorders' notes (hash)   ARGV[1] number of the resynchronisation (count)
-- ARGV[2] cursor of SCAN (text), '0' = done
--
-- Returns 1, or 0 if another one has become due meanwhile, which begins anew.

local notes, number, cursor = KEYS[1], ARGV[1], ARGV[2]

if redis.call('HGET', notes, 'resync') ~= number then return 0 end
if cursor == '0' then
  redis.call('HDEL', notes, 'resync', 'cursor')
else
  redis.call('HSET', notes, 'cursor', cursor)
end
return 1
