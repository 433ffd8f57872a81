-- Change what the next attempts of a running task get (Celery's `retry()` with other arguments or options). The task
-- counts as running in its new group at once, since it leaves the running ones by its record.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)   ARGV[6] group (text)
-- ARGV[7] when the next attempt expires unless it has started (ms since the epoch), '' for never
-- ARGV[8] in how many milliseconds from now it does, instead of ARGV[7], or ''
-- ARGV[9..] 2 values per field of the record: its name, and its new value (text), '' if the record is to be without it
--
-- Returns 'ok' | 'stale:STATUS' (it is not this claim's any more).

local id, fence, group, expires_ms, expires_in_ms = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if expires_in_ms ~= '' then expires_ms = int(now_ms + tonumber(expires_in_ms)) end
local task = key.task(id)

local FIELDS = {'status', 'fence', unpack(FIELDS_OF_A_LIMIT)}
local t = read(id, FIELDS)
if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
life.write_out(t)
for i = 9, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', task, ARGV[i]) else redis.call('HSET', task, ARGV[i], ARGV[i + 1]) end
end
-- A message of before is refused from now on.
redis.call('HINCRBY', task, 'edition', 1)
if expires_ms == '' then
  redis.call('HDEL', task, 'expires_ms', 'expires_at')
else
  redis.call('HSET', task, 'expires_ms', expires_ms, 'expires_at', rfc3339(tonumber(expires_ms)))
  redis.call('ZADD', key.expiring, expires_ms, id)
end
if group ~= t.queue then
  local since = redis.call('ZSCORE', key.running(t.queue), id)
  redis.call('HSET', task, 'queue', group)
  leave_running(t)
  end_turn(t)
  if since then redis.call('ZADD', key.running(group), since, id) end
  t = read(id, FIELDS)
  take_permits(t, covering(t))
  let_others_go()
end
return 'ok'
