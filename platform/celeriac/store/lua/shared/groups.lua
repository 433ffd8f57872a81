-- Groups: which ones are known, who made them, and which ones the workers of all groups serve at present.
--
-- A group is known from its first task on, and forgotten after a long time without tasks (sweep.lua). It is awake while it
-- has tasks for Celery's workers, and some time longer. Workers of all groups serve the groups that are awake.

-- A group is known from now on. `maker`: who counts as having made a new one (text), '' or nil for nobody.
local function note_group(group, maker)
  if redis.call('SADD', key.groups, group) == 1 and maker and maker ~= '' then
    redis.call('HSET', key.makers, group, maker)
    redis.call('HINCRBY', key.made, maker, 1)
  end
end

-- A task comes to wait in a group in which nothing waited: workers of all groups hear of it if the group was asleep. In a
-- crowd, they hear of every such group.
local awaken
do
  -- With more groups than this awake, a worker does not wait for messages of all of them at once.
  local CROWD = 50

  function awaken(group, delivery, maker)
    if delivery == '' or delivery == 'broker' then
      local known = redis.call('SADD', key.awake, group) == 0
      if known and redis.call('SCARD', key.awake) <= CROWD then return end
      redis.call('PUBLISH', key.awake, group)
      if known then return end
    end
    note_group(group, maker)
  end
end

-- Forget a group. The caller who made it may make another one.
local function forget_group(group)
  redis.call('SREM', key.groups, group)
  redis.call('SREM', key.awake, group)
  redis.call('DEL', key.group(group))
  local maker = redis.call('HGET', key.makers, group)
  if not maker then return end
  redis.call('HDEL', key.makers, group)
  if redis.call('HINCRBY', key.made, maker, -1) <= 0 then redis.call('HDEL', key.made, maker) end
end

-- Count the tasks of a group that wait for a time: such a group is not forgotten.
local function count_delayed(group, by) redis.call('HINCRBY', key.group(group), 'delayed', by) end

-- Whether a worker serves the group by its name. Only called when there is no room for new groups.
local is_served
do
  local served
  on_call(function() served = nil end)

  function is_served(group)
    if not served then
      served = {}
      for _, worker in ipairs(redis.call('ZRANGE', key.workers, 0, 999)) do
        for name in string.gmatch(redis.call('HGET', key.worker(worker), 'groups') or '', '[^,]+') do served[name] = true end
      end
    end
    return served[group] or redis.call('ZCOUNT', key.gateways(group), int(now_ms + 1), '+inf') > 0
  end
end

-- The answer to a call whose group would be one too many of those that callers made, else nil. `maker`: as in `note_group`.
-- `max_groups`, `max_made`: most such groups, and most of one caller.
local function answer_of_no_room(group, maker, max_groups, max_made)
  if maker == '' or redis.call('SISMEMBER', key.groups, group) == 1 then return end
  local limit, whose
  if tonumber(redis.call('HGET', key.made, maker) or 0) >= max_made then
    limit, whose = max_made, 'caller'
  elseif redis.call('HLEN', key.makers) >= max_groups then
    limit, whose = max_groups, 'all'
  else
    return
  end
  if is_served(group) then return end
  return {'groups_full', int(limit), whose}
end
