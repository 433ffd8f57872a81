-- Note how far a resynchronisation has come. (No shared part: it touches no task.)
--
-- ARGV[1] hash with the recorders' notes   ARGV[2] number of the resynchronisation   ARGV[3] SCAN cursor, '0' = done
--
-- Returns 1, or 0 when another one has become due meanwhile, which begins anew.

if redis.call('HGET', ARGV[1], 'resync') ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  redis.call('HDEL', ARGV[1], 'resync', 'cursor')
else
  redis.call('HSET', ARGV[1], 'cursor', ARGV[3])
end
return 1
