-- Groups that are paused or limited: which of their tasks are held back, and when the next ones are let go.

-- Whether a group is paused, looked up once per script; one look tells when none is paused or limited, as nearly always.
local any_held
local function none_held()
  if any_held == nil then any_held = redis.call('EXISTS', key.paused, key.resuming, key.limits) > 0 end
  return not any_held
end
local paused = setmetatable({}, {__index = function(memo, group)
  local held = not none_held() and redis.call('HEXISTS', key.paused, group) == 1
  memo[group] = held
  return held
end})

-- Whether a task of this score is to be told nobody yet: its group is paused, or resume.lua, which goes through all
-- that waits, has not come to it: then it would overtake others.
local resumed_to = setmetatable({}, {__index = function(memo, group)
  local score = redis.call('HGET', key.resuming, group)
  memo[group] = score and tonumber(score) or math.huge
  return memo[group]
end})
local function held_back(group, score)
  if none_held() then return false end
  return paused[group] or tonumber(score) > resumed_to[group]
end

-- Limits of a group across all its workers. While it is at one of them, its waiting tasks have no message: they are in
-- the sorted set key.limited(group), by their waiting score. Each place that becomes free sends one message, of the
-- first of them. So while any is in the set, either no place is free, or as many messages are out as places are, or
-- the group is in key.limits_due, at the time when its rate lets the next one start. (One message too many is
-- harmless: its claim is refused.)

-- What a group is limited to, false where nothing is set: `max_running` (count, nil without); with a rate `every`, the
-- ms from one start to the next, and `early`, the ms by which one may be ahead of that, so that what came late is made
-- up for.
local limits = setmetatable({}, {__index = function(memo, group)
  local text = not none_held() and redis.call('HGET', key.limits, group)
  local set = text and cjson.decode(text) or false
  if set and set.rate then
    set.early = math.min(set.per_ms / 20, 100)
    -- So that `rate` and one more never start within `per_ms`. In 1/1024 ms: then no sum of them is rounded.
    set.every = math.ceil((set.per_ms + set.early) / set.rate * 1024) / 1024
  end
  memo[group] = set
  return set
end})

-- How many more tasks may run. External programs ask nobody, so it may be less than none.
local function free_places(group, set)
  if not set.max_running then return math.huge end
  return set.max_running - redis.call('ZCARD', key.running(group)) - (gathered and granted_here[group] or 0)
end

-- How many may start now by the rate, and the time (ms) that the next start is counted from.
-- The generic cell rate algorithm as virtual scheduling (ITU-T I.371, annex A), whose "theoretical arrival time" is kept.
local function free_starts(group, set)
  if not set.every then return math.huge end
  local next_start = math.max(tonumber(redis.call('HGET', key.group(group), 'next_start_ms') or 0), now_ms)
  -- Further ahead than it can be: the rate was lower then, or the clock was set back.
  if next_start > now_ms + set.early + set.every then next_start = now_ms end
  local early = now_ms + set.early - next_start
  return early >= 0 and math.floor(early / set.every) + 1 or 0, next_start
end

-- Have promote.lua look at the group at this time (ms), or earlier where that is noted.
local function look_at(group, at) redis.call('ZADD', key.limits_due, 'LT', int(math.ceil(at)), group) end

-- Whether one more task of the group may start now; if so, it counts as started.
local function admit(group)
  local set = limits[group]
  if not set then return true end
  if free_places(group, set) <= 0 then return false end
  local starts, next_start = free_starts(group, set)
  if starts == 0 then
    look_at(group, next_start - set.early)
    return false
  end
  if set.every then redis.call('HSET', key.group(group), 'next_start_ms', format('%.10f', next_start + set.every)) end
  granted_here[group] = (granted_here[group] or 0) + 1
  return true
end

-- Whether a task of this delivery and score that comes to wait is to be told nobody yet: it is held back, or its group is
-- at a limit.
local function withheld(id, group, delivery, score)
  if none_held() then return false end
  if held_back(group, score) then return true end
  local set = limits[group]
  if not set or (delivery ~= '' and delivery ~= 'broker') then return false end
  if free_places(group, set) > 0 then
    local starts, next_start = free_starts(group, set)
    if starts > 0 then return false end
    look_at(group, next_start - set.early)
  end
  change('ZADD', key.limited(group), score, id)
  return true
end

-- A task has left the waiting or the running ones of its group: another one may be let go.
local function vacate(group)
  if not limits[group] then return end
  if gathered then
    left_here[group] = (left_here[group] or 0) + 1
  else
    let_go(group, 1)
  end
end

-- Messages of a limited group that one script sends at most; promote.lua goes on where there are more to send.
local MOST_LET_GO = 500

-- Send messages of the first `most` tasks that a limit of the group holds, as far as there is room; wake its remote
-- workers. Returns their ids, in order.
function let_go(group, most)
  local set, going = limits[group], {}
  -- resume.lua comes here again.
  if not set or paused[group] then return going end
  local room = math.min(most, MOST_LET_GO, free_places(group, set))
  if room <= 0 then return going end
  local starts, next_start = free_starts(group, set)
  local remote = redis.call('ZCARD', key.remote(group)) > 0
  if remote and starts > 0 then wake(group) end

  local held, records = key.limited(group), {}
  if set.every then
    -- Where workers are slower than the rate, messages lie in their lists; more in front of those would turn the order round.
    for step = 0, 9, 3 do
      local out = redis.pcall('LLEN', celery_list(group, 9 - step))
      starts = starts - (type(out) == 'number' and out or 0)
    end
  end
  room = math.min(room, starts)
  while #going < room do
    local ids = redis.call('ZPOPMIN', held, int(room - #going))
    if #ids == 0 then break end
    for i = 1, #ids, 2 do
      local t = read(ids[i], {'status', unpack(FIELDS_OF_A_HINT)})
      if t.status == 'PENDING' then
        going[#going + 1] = t.id
        records[#going] = t
      end
    end
  end
  -- Backwards: what is put in front last is taken first.
  for i = #going, 1, -1 do
    local task = key.task(going[i])
    redis.call('HSET', task, 'hinted_ms', now)
    redis.call('HINCRBY', task, 'hints', 1)
    hint(records[i], true, take_seq(1))
  end

  local left = redis.call('EXISTS', held) == 1
  if set.every and (left or remote) and #going == starts then
    look_at(group, next_start + #going * set.every - set.early)
  elseif left and #going == MOST_LET_GO then
    look_at(group, now_ms)
  end
  return going
end
