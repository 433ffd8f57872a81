-- Let go of an ended task that take_untold.lua gave: Celery has been told, or somebody is to try again later. Nothing happens if
-- it is not the caller's any more: its lease ran out, or it was run again meanwhile.
--
-- ARGV[4] id (text)   ARGV[5] end of the caller's lease (ms since the epoch)
-- ARGV[6] '' = Celery has been told | when the task ended (ms since the epoch): try again later
--
-- Returns 'done' | 'again' | 'given_up' (it ended too long ago for another try) | 'lost' (it is not the caller's any more).

local id, lease_until, ended_ms = ARGV[4], ARGV[5], tonumber(ARGV[6])

-- The pause before another try is as long as the time since the end, within these (ms).
local LEAST_PAUSE_MS, MOST_PAUSE_MS = 1000, 300000

local held_until = redis.call('ZSCORE', key.untold, id)
if not held_until or tonumber(held_until) ~= tonumber(lease_until) then return 'lost' end
local since_ms = now_ms - (ended_ms or 0)
if ended_ms and since_ms < tonumber(tell_within_ms) then
  redis.call('ZADD', key.untold, int(now_ms + math.min(math.max(since_ms, LEAST_PAUSE_MS), MOST_PAUSE_MS)), id)
  return 'again'
end
redis.call('ZREM', key.untold, id)
return ended_ms and 'given_up' or 'done'
