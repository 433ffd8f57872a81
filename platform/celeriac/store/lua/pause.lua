-- Hold a group back: what waits and what comes waits until resume.lua; what runs goes on.
--
-- ARGV[4] group   ARGV[5] what is noted of it (JSON object)
--
-- Returns when it was paused (ms since the epoch): paused again, it keeps its time and gets the new note.

local group = ARGV[4]
local noted = cjson.decode(ARGV[5])
local before = redis.call('HGET', key.paused, group)
noted.paused_ms = before and cjson.decode(before).paused_ms or now_ms
redis.call('HSET', key.paused, group, cjson.encode(noted))
redis.call('HDEL', key.resuming, group)
redis.call('SADD', key.groups, group)
return int(noted.paused_ms)
