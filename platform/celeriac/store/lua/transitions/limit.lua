-- Set what a group is limited to across all its workers, in place of what was set before; or remove it.
--
-- What runs goes on, also if it is more than may run from now on. What a limit held and the new one does not goes on
-- at once; after a removal resume.lua sends what there is to be sent, and any call of it carries on.
--
-- ARGV[4] group (text)
-- ARGV[5] limits (JSON object: max_running (count), rate (starts) with per_ms (ms), each may be absent; note), '' for none
--
-- Returns {since when it is limited so (ms since the epoch), 1 if it was limited before else 0}.

local group, wanted = ARGV[4], ARGV[5]

if wanted == '' then
  local was = redis.call('HDEL', key.limits, group)
  redis.call('ZREM', key.limits_due, group)
  local held = redis.call('UNLINK', key.limited(group))
  if not paused[group] then
    if held == 1 then redis.call('HSET', key.resuming, group, '0') end
    wake(group)
  end
  return {now, was}
end

local set = cjson.decode(wanted)
set.since_ms = now_ms
local was = 1 - redis.call('HSET', key.limits, group, cjson.encode(set))
note_group(group)
redis.call('SADD', key.label_groups, group)
let_go(group, math.huge)
if set.rate then look_at(group, now_ms) end
return {now, was}
