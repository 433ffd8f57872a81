-- Note texts for a time, and forget those whose time is over; of too many, those whose time is over first.
--
-- KEYS[1] the notes (sorted set: text, by the end of its time in ms since the epoch)
-- ARGV[1] for how long (ms)   ARGV[2] most notes to keep (count)   ARGV[3..] the texts
--
-- Returns how many notes there are (count).

local notes, for_ms, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', notes, '-inf', string.format('%.0f', now_ms))
for i, text in ipairs(ARGV) do
  if i > 2 then redis.call('ZADD', notes, 'GT', string.format('%.0f', now_ms + for_ms), text) end
end
redis.call('ZREMRANGEBYRANK', notes, 0, -most - 1)
local last = redis.call('ZRANGE', notes, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', notes, last[2])
return redis.call('ZCARD', notes)
