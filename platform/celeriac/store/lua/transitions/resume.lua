-- Let a paused group go on, or one whose rules have changed: send the messages of all that waits and has none, in their order, some in
-- each call. What a rule has no room for is parked, see limits.lua.
--
-- The process that calls first need not live to the end: how far it came is noted, and any other call carries on there. What
-- comes meanwhile is held back until its turn (see held_back). Tasks for remote workers come last, those that are parked after the
-- others: the note says 'i' then, and 'r'.
--
-- ARGV[4] group (text)   ARGV[5] '1' = it is paused no longer from now on, '' = carry on only
-- ARGV[6] most tasks to look at in this call (count)
--
-- Returns {1 if it was paused until this call else 0, messages sent (count), 1 if there is more to do else 0}.

local group, ends_pause, limit = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6])
local was, sent = 0, 0

if ends_pause then
  was = redis.call('HDEL', key.paused, group)
  if was == 1 then redis.call('HSET', key.resuming, group, '0') end
  forget_held()
end
local after = redis.call('HGET', key.resuming, group)
if not after then return {was, sent, 0} end

local FIELDS = {'status', 'hints', 'key', 'user_id', 'cost', unpack(FIELDS_OF_A_HINT)}

-- Look at a page of an index from the noted score on. Returns how many tasks that were, and the score of the last one.
local function each_after(index, from, handle)
  local found = redis.call('ZRANGEBYSCORE', index, '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #found, 2 do handle(read(found[i], FIELDS), tonumber(found[i + 1])) end
  return #found / 2, #found > 0 and int(tonumber(found[#found])) or from
end

-- Park a task, or note that it is out. Returns whether it is out.
local function goes_out(t, score)
  local covered = covering(t)
  note_queued(t, covered, score)
  withdraw(t, covered)
  return park_or_send(t, covered, score)
end

local phase, from = string.match(after, '^(%a?)(.*)$')
local looked, last
if phase == '' then
  looked, last = each_after(key.waiting(group), from, function(t, score)
    if t.status ~= 'PENDING' or not t.queue then return end
    local limited = not none_held() and (not t.delivery or t.delivery == 'broker')
    local covered = limited and covering(t) or NOTHING
    -- One whose message is still out is found by it.
    if tonumber(t.hints or 0) > 0 and not (limited and is_parked(t.id)) then
      note_queued(t, covered, score)
    elseif not limited or goes_out(t, score) then
      life.count_hint(t.id, 1)
      redis.call('HSET', key.task(t.id), 'hinted_ms', now)
      hint(t, false, take_seq(1))
      sent = sent + 1
    end
  end)
elseif phase == 'i' then
  looked, last = each_after(key.remote(group), from, function(t, score)
    if t.status == 'PENDING' and t.queue then goes_out(t, score) end
  end)
else
  local index = key.remote_parked(group)
  looked, last = each_after(index, from, function(t, score)
    if t.status ~= 'PENDING' or not t.queue then
      redis.call('ZREM', index, t.id)
    elseif goes_out(t, score) then
      redis.call('ZREM', index, t.id)
      redis.call('ZADD', key.remote(group), int(score), t.id)
    end
  end)
end
if looked < limit then
  -- Without rules, remote workers look for themselves.
  phase = phase == '' and redis.call('EXISTS', key.rules) == 1 and 'i' or phase ~= 'r' and 'r' or nil
  last = '0'
  if phase == 'r' and redis.call('EXISTS', key.remote_parked(group)) == 0 then phase = nil end
  if not phase then
    redis.call('HDEL', key.resuming, group)
    wake(group)
    return {was, sent, 0}
  end
end
redis.call('HSET', key.resuming, group, phase .. last)
return {was, sent, 1}
