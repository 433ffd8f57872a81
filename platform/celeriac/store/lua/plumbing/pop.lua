-- Take messages from Celery's lists, in the order in which BRPOP would.
--
-- KEYS[1..] the lists of a queue, first served first   ARGV[1] most messages to take (count)
--
-- Returns the messages (array of texts). One that its taker loses is found by the sweep.

local room = tonumber(ARGV[1])

local messages = {}
for _, list in ipairs(KEYS) do
  while room > 0 do
    local taken = redis.call('RPOP', list, room)
    if not taken or #taken == 0 then break end
    for _, message in ipairs(taken) do messages[#messages + 1] = message end
    room = room - #taken
  end
end
return messages
