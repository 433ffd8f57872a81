-- Move what is due from the delayed set to its group: SCHEDULED | RETRYING -> PENDING.
--
-- ARGV[4] most tasks to move in this call (count)
--
-- Returns {moved (count), ms until the next is due, or -1 when nothing is delayed}.

local due = redis.call('ZRANGEBYSCORE', key.delayed, '-inf', int(now_ms), 'LIMIT', 0, ARGV[4])
for _, id in ipairs(due) do
  redis.call('ZREM', key.delayed, id)
  local status = redis.call('HGET', key.task(id), 'status')
  if status == 'SCHEDULED' or status == 'RETRYING' then enqueue(id, false) end
end
local first = redis.call('ZRANGE', key.delayed, 0, 0, 'WITHSCORES')
return {#due, first[2] and math.max(0, tonumber(first[2]) - now_ms) or -1}
