-- Let a paused group go on: send the messages of all that waits and has none, in their order, some in each call.
--
-- Whoever calls first need not live to the end: where it was is noted, and any other call carries on there. What
-- comes meanwhile is held back until its turn (see held_back).
--
-- What a limit of the group holds stays with it, see let_go.
--
-- ARGV[4] group   ARGV[5] '1' = it is paused no longer from now on, '' = carry on only
-- ARGV[6] most tasks to look at in this call (count)
--
-- Returns {1 if it was paused until this call else 0, messages sent (count), 1 if there is more to do else 0}.

local group, limit = ARGV[4], tonumber(ARGV[6])
local was, sent = 0, 0
if ARGV[5] == '1' then
  was = redis.call('HDEL', key.paused, group)
  if was == 1 then
    redis.call('HSET', key.resuming, group, '0')
    sent = #let_go(group, math.huge)
  end
end
local after = redis.call('HGET', key.resuming, group)
if not after then return {was, sent, 0} end

local last = after
local found = redis.call('ZRANGEBYSCORE', key.waiting(group), '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #found, 2 do
  local id, task = found[i], key.task(found[i])
  last = int(tonumber(found[i + 1]))
  local f = redis.call('HMGET', task, 'status', 'type', 'priority', 'delivery', 'attempt', 'message', 'payload', 'hints', 'secret_fields')
  -- One whose message is still out is found by it.
  local limited = limits[group] and redis.call('ZSCORE', key.limited(group), id)
  if f[1] == 'PENDING' and tonumber(f[8] or 0) == 0 and not limited then
    redis.call('HSET', task, 'hinted_ms', int(now_ms), 'hints', '1')
    hint(id, f[2], group, tonumber(f[3] or 0), f[4] or '', tonumber(f[5] or 0), false, f[6], f[7], f[9], take_seq(1))
    sent = sent + 1
  end
end
if #found == 2 * limit then
  redis.call('HSET', key.resuming, group, last)
  return {was, sent, 1}
end
redis.call('HDEL', key.resuming, group)
-- Remote workers look for themselves.
wake(group)
return {was, sent, 0}
