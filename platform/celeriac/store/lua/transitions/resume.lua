-- Let a paused group go on: send the messages of all that waits and has none, in their order, some in each call.
--
-- The process that calls first need not live to the end: how far it came is noted, and any other call carries on there. What
-- comes meanwhile is held back until its turn (see held_back). What a limit of the group holds stays with it, see let_go.
--
-- ARGV[4] group (text)   ARGV[5] '1' = it is paused no longer from now on, '' = carry on only
-- ARGV[6] most tasks to look at in this call (count)
--
-- Returns {1 if it was paused until this call else 0, messages sent (count), 1 if there is more to do else 0}.

local group, ends_pause, limit = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6])
local was, sent = 0, 0

if ends_pause then
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
  local id = found[i]
  last = int(tonumber(found[i + 1]))
  local t = read(id, {'status', 'hints', unpack(FIELDS_OF_A_HINT)})
  -- One whose message is still out is found by it.
  local limited = limits[group] and redis.call('ZSCORE', key.limited(group), id)
  if t.status == 'PENDING' and tonumber(t.hints or 0) == 0 and not limited then
    redis.call('HSET', key.task(id), 'hinted_ms', now, 'hints', '1')
    hint(t, false, take_seq(1))
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
