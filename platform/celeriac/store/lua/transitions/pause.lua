-- Hold a group back: what waits and what comes waits until resume.lua; what runs goes on.
--
-- ARGV[4] group (text)   ARGV[5] what is noted of the pause (JSON object)
--
-- Returns when it was paused (ms since the epoch): a group that is paused again keeps its time and gets the new note.

local group, noted = ARGV[4], cjson.decode(ARGV[5])

local before = redis.call('HGET', key.paused, group)
noted.paused_ms = before and cjson.decode(before).paused_ms or now_ms
redis.call('HSET', key.paused, group, cjson.encode(noted))
redis.call('HDEL', key.resuming, group)
note_group(group)
redis.call('SADD', key.label_groups, group)
return int(noted.paused_ms)
