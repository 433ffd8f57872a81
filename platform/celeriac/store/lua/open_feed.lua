-- Say where a user's feed is now, and which tasks the user has. (No shared part: it changes no task.)
-- A feed that holds nothing gets a mark, so that there is always a place to come back to.
--
-- KEYS[1] the feed   KEYS[2] tasks that have not ended   KEYS[3] ended ones
-- ARGV[1] life of a feed (ms)   ARGV[2] most tasks of each kind to name (count)
--
-- Returns {id of the feed's last message, tasks that have not ended (count), {their ids, the latest first},
-- {ids of the ended ones, the latest first}}.

local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local position = last and last[1] or redis.call('XADD', KEYS[1], '*', 'kind', 'mark')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {
  position,
  redis.call('ZCARD', KEYS[2]),
  redis.call('ZREVRANGE', KEYS[2], 0, ARGV[2] - 1),
  redis.call('ZREVRANGE', KEYS[3], 0, ARGV[2] - 1),
}
