-- Forget the recorders that are gone and have nothing left to be taken over. (No shared part: it touches no task.)
--
-- ARGV[1] the stream   ARGV[2] the consumer group   ARGV[3] unseen for this long (ms)
--
-- Returns how many were forgotten. One that comes back is simply made again.

local gone = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])
if type(consumers) ~= 'table' or consumers.err then return 0 end
for _, consumer in ipairs(consumers) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if tonumber(fields.pending) == 0 and tonumber(fields.idle) > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], fields.name)
    gone = gone + 1
  end
end
return gone
