-- Move what is due from the delayed set to its group: SCHEDULED | RETRYING -> PENDING. Let go what a rate of its group has held
-- until now.
--
-- ARGV[4] most tasks to move in this call (count)
--
-- Returns {moved (count), ms until the next task or group is due, or -1 if none is}.

local most = ARGV[4]

-- How often a group with a rate is looked at while nothing of it waits (ms): something may come and be refused.
local LOOK_MS = 50

local due = redis.call('ZRANGEBYSCORE', key.delayed, '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  redis.call('ZREM', key.delayed, id)
  local t = read(id, {'status', 'queue'})
  if t.queue then count_delayed(t.queue, -1) end
  if t.status == 'SCHEDULED' or t.status == 'RETRYING' then enqueue(id, false) end
end

for _, group in ipairs(redis.call('ZRANGEBYSCORE', key.limits_due, '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', key.limits_due, group)
  let_go(group, math.huge)
  local noted = redis.call('ZSCORE', key.limits_due, group)
  if not noted and limits[group] and limits[group].every then look_at(group, now_ms + LOOK_MS) end
end

local next_ms = math.huge
for _, index in ipairs({key.delayed, key.limits_due}) do
  local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
  if first[2] then next_ms = math.min(next_ms, tonumber(first[2])) end
end
return {#due, next_ms < math.huge and math.max(0, next_ms - now_ms) or -1}
