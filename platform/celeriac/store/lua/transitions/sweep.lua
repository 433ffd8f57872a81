-- Send again the messages that were lost between a queue and a claim, and forget a group that was idle for long.
--
-- A list is first in, first out: once a task that arrived later was claimed, the message of an
-- earlier one in the same list has left it too. If that one still waits after the grace, its message
-- is lost. What was put in front meanwhile is judged by later claims only. And where the list is empty,
-- all that should be in it is lost.
--
-- A group that is forgotten is in the index again with the next task: submit.lua and enqueue put it there whenever
-- nothing waits in it, and only then it can be forgotten.
--
-- What a rule has parked has no message, so none of it is lost. But what no rule holds, though it is noted so, goes on.
--
-- ARGV[4] group (text)   ARGV[5] grace (ms)   ARGV[6] most messages to send in this call, per priority (count)
-- ARGV[7] '' if Redis is the broker; for another broker '1' if it has no message left for this group, else '0'
-- ARGV[8] how long an idle group is known (ms)   ARGV[9] how long an idle group is awake (ms)
--
-- Returns the ids whose message went out again (array of texts).

local group, grace_ms, limit = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local other_broker, known_ms, awake_ms = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local sent = {}
-- Nothing is lost while it is held back.
if paused[group] or redis.call('HEXISTS', key.resuming, group) == 1 then
  redis.call('HDEL', key.group(group), 'idle_ms')
  return sent
end
-- Some of each, by chance: a foreign program may have deleted a record.
for _, id in ipairs(redis.call('ZRANDMEMBER', key.running(group), 20)) do
  if not read(id, {'status'}).status then redis.call('ZREM', key.running(group), id) end
end
for _, id in ipairs(redis.call('ZRANDMEMBER', key.remote_parked(group), 20)) do
  local status = read(id, {'status'}).status
  if status ~= 'PENDING' then
    redis.call('ZREM', key.remote_parked(group), id)
  elseif not is_parked(id) then
    -- A claim asks its rules.
    redis.call('ZADD', key.remote(group), redis.call('ZSCORE', key.remote_parked(group), id), id)
    redis.call('ZREM', key.remote_parked(group), id)
    wake(group)
  end
end
local broker_empty = other_broker == '1' and redis.call('LLEN', key.outbox) == 0

-- What is known of each of the group's lists.
local lists = {}
for _, step in ipairs({0, 3, 6, 9}) do
  local popped, popped_ms = unpack(redis.call('HMGET', key.group(group), 'popped:' .. step, 'popped_ms:' .. step))
  local empty = broker_empty or (other_broker == '' and redis.call('LLEN', celery_list(group, 9 - step)) == 0)
  local moved_ms = tonumber(popped_ms or 0)
  lists[step] = {empty = empty, popped = tonumber(popped or 0), moved_ms = moved_ms, claimed_ms = not empty and moved_ms}
end

-- `claimed_ms`: when the list was last seen to move on, false when it is empty.
local function resend(id, claimed_ms)
  local t = read(id, {'status', 'hints', 'hinted_ms', 'key', 'user_id', 'cost', unpack(FIELDS_OF_A_HINT)})
  -- A record without type or queue was damaged by a foreign program.
  if t.status ~= 'PENDING' or not (t.type and t.queue) then
    redis.call('ZREM', key.waiting(group), id)
    return
  end
  if not none_held() and is_parked(id) then return end
  if t.delivery and t.delivery ~= 'broker' then return end
  local hints, hinted_ms = tonumber(t.hints or 1), tonumber(t.hinted_ms or 0)
  if claimed_ms and hinted_ms > claimed_ms then return end
  -- The grace doubles with each message sent (up to 64 times), so a worker that hoards messages gets no flood.
  if now_ms - hinted_ms < grace_ms * 2 ^ math.min(hints - 1, 6) then return end
  redis.call('HSET', key.task(id), 'hinted_ms', now, 'hints', int(hints + 1))
  hint(t, true, take_seq(1))
  sent[#sent + 1] = id
end

for priority = 0, 9 do
  local list, low = lists[list_step(priority)], (9 - priority) * BAND
  if list.empty or list.popped > 0 then
    local high = list.empty and low + BAND - 1 or low + list.popped
    local lost = redis.call('ZRANGEBYSCORE', key.waiting(group), int(low), int(high), 'LIMIT', 0, limit)
    -- Backwards: what is put in front last is taken first.
    for i = #lost, 1, -1 do resend(lost[i], list.claimed_ms) end
  end
end

-- Its workers may not know yet that there is something to do: a plain producer pushes messages and tells nobody.
for _, list in pairs(lists) do
  if not list.empty or #sent > 0 then awaken(group, '') end
end

-- Whether nothing is in the group: no limit, no task, no message, also none that no record knows, no remote worker.
local function is_idle()
  if redis.call('HEXISTS', key.rules_of, 'group ' .. group) == 1 then return false end
  for _, list in pairs(lists) do
    if not list.empty then return false end
  end
  return redis.call('EXISTS', key.waiting(group), key.remote(group), key.remote_parked(group), key.running(group)) == 0
    and redis.call('ZCOUNT', key.gateways(group), now, '+inf') == 0
end

local facts = key.group(group)
if is_idle() then
  local since = tonumber(redis.call('HGET', facts, 'idle_ms') or 0)
  if since == 0 then
    redis.call('HSET', facts, 'idle_ms', now)
  else
    -- A task that came and went between two looks.
    for _, list in pairs(lists) do since = math.max(since, list.moved_ms) end
    if now_ms - since >= awake_ms then redis.call('SREM', key.awake, group) end
    if now_ms - since >= known_ms and tonumber(redis.call('HGET', facts, 'delayed') or 0) <= 0 then forget_group(group) end
  end
else
  redis.call('HDEL', facts, 'idle_ms')
end

return sent
