-- Move what is due from the delayed set to its group: SCHEDULED | RETRYING -> PENDING. What is WAITING for a time or a signal goes on
-- if nothing else is open (see suspension.lua). What has expired meanwhile ends. Let go what a rate, or a closed key, has held until
-- now. A replaced task whose last part has not come in time fails (see await_replacement.lua). Dependants of ended tasks
-- that have not heard of the end do so now (see dependencies.lua).
--
-- ARGV[4] most tasks to move in this call (count)
--
-- Returns {moved (count), ms until the next task or group is due, or -1 if none is}.

local most = ARGV[4]

local due = redis.call('ZRANGEBYSCORE', key.delayed, '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  if work_left <= 0 then break end
  redis.call('ZREM', key.delayed, id)
  local t = read(id, {'replaced_by', 'due_ms', 'awaits', 'expires_ms', unpack(FIELDS_OF_AN_END)})
  if t.status == 'WAITING' then
    pass_time(t)
  elseif t.status == 'SCHEDULED' and t.replaced_by then
    settle(t, 'FAILED', false, {'replacement_failed', t.replaced_by .. ', which replaced this task, has not come to its end', '0'})
  elseif t.status == 'SCHEDULED' and t.expires_ms and tonumber(t.expires_ms) <= now_ms then
    settle(t, 'FAILED', false, {'expired', 'it was not started before it expired', '0'})
  else
    if t.queue then count_delayed(t.queue, -1) end
    if t.status == 'SCHEDULED' or t.status == 'RETRYING' then enqueue(id, false) end
  end
end

for _, place in ipairs(redis.call('ZRANGEBYSCORE', key.limits_due, '-inf', now, 'LIMIT', 0, most)) do
  if work_left <= 0 then break end
  work_left = work_left - 1
  redis.call('ZREM', key.limits_due, place)
  local name, bucket = string.match(place, '^(.-)\n(.*)$')
  local rule = name and rule_named(name)
  if rule then let_go(rule, bucket, math.huge) end
end
redis.call('ZREMRANGEBYSCORE', key.closed, '-inf', now)

for _, parent in ipairs(redis.call('ZRANGE', key.releasing, 0, 9)) do release_dependants(parent) end

local next_ms = redis.call('EXISTS', key.releasing) == 1 and now_ms or math.huge
for _, index in ipairs({key.delayed, key.limits_due}) do
  local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
  if first[2] then next_ms = math.min(next_ms, tonumber(first[2])) end
end
return {#due, next_ms < math.huge and math.max(0, next_ms - now_ms) or -1}
