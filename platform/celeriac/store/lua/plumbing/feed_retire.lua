-- Forget the recorders that are gone and have nothing left to be taken over.
--
-- KEYS[1] the stream   ARGV[1] the consumer group (text)   ARGV[2] unseen for this long (ms)
--
-- Returns how many were forgotten (count). One that comes back is simply made again.

local stream, group, unseen_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])

local gone = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if type(consumers) ~= 'table' or consumers.err then return 0 end
for _, consumer in ipairs(consumers) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  if tonumber(facts.pending) == 0 and tonumber(facts.idle) > unseen_ms then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, facts.name)
    gone = gone + 1
  end
end
return gone
