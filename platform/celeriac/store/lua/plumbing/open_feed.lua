-- Say where a user's feed is now, and which tasks the user has.
-- A feed that holds nothing gets a mark, so that there is always a place to come back to.
--
-- KEYS[1] the feed (stream)   KEYS[2] tasks that have not ended (sorted set)   KEYS[3] ended ones (sorted set)
-- ARGV[1] life of a feed (ms)   ARGV[2] most tasks of each kind to name (count)
--
-- Returns {id of the feed's last message, tasks that have not ended (count), {their ids, the latest first},
-- {ids of the ended ones, the latest first}}.

local feed, active, ended = KEYS[1], KEYS[2], KEYS[3]
local feed_ms, most = ARGV[1], tonumber(ARGV[2])

local last = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)[1]
local position = last and last[1] or redis.call('XADD', feed, '*', 'kind', 'mark')
redis.call('PEXPIRE', feed, feed_ms)
return {
  position,
  redis.call('ZCARD', active),
  redis.call('ZREVRANGE', active, 0, most - 1),
  redis.call('ZREVRANGE', ended, 0, most - 1),
}
