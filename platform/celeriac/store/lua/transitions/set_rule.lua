-- Set a rule in place of the one of its name, or remove it (see rules.lua).
--
-- What runs goes on, also if it is more than may run from now on: it counts, and others start when there is room. What waits is looked
-- at again, in its order, by resume.lua: any call of it carries on.
--
-- ARGV[4] name (text)   ARGV[5] the rule (JSON object as in key.rules, without since_ms), '' for none
-- ARGV[6] most rules (count)   ARGV[7] most rules that may cover a task (count)
--
-- Returns {'set', since when it is so (ms since the epoch), 1 if there was one before else 0, the groups to resume ...} |
-- {'full', limit} | {'covered', the rules that would cover a task with it (names) ...}.

local name, wanted, most_rules, most_of_task = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

local rules = {}
local stored = redis.call('HGETALL', key.rules)
for i = 1, #stored, 2 do
  local readable, rule = pcall(cjson.decode, stored[i + 1])
  -- One that a foreign program has damaged covers nothing.
  if not readable or type(rule) ~= 'table' or not (rule.group or rule.type) then rule = {} end
  rule.name = stored[i]
  rules[stored[i]] = rule
end
local before, after = rules[name], wanted ~= '' and cjson.decode(wanted) or nil
if after then
  after.name, after.since_ms = name, now_ms
  if not before and #stored / 2 >= most_rules then return {'full', int(most_rules)} end
end
rules[name] = after

-- The rules that cover the tasks of a group and of a type, each nil for one that no rule names.
local function rules_of(group, task_type)
  local found = {}
  for other, rule in pairs(rules) do
    local is_for = (not rule.group or rule.group == group) and (not rule.type or rule.type == task_type)
    if is_for and (rule.group or rule.type) then found[#found + 1] = other end
  end
  table.sort(found)
  return found
end
-- What the rules name of this kind, and nil.
local function named(kind)
  local seen, found = {}, {false}
  for _, rule in pairs(rules) do
    if rule[kind] and not seen[rule[kind]] then
      seen[rule[kind]] = true
      found[#found + 1] = rule[kind]
    end
  end
  return found
end
if after then
  for _, group in ipairs(after.group and {after.group} or named('group')) do
    for _, task_type in ipairs(after.type and {after.type} or named('type')) do
      local found = rules_of(group, task_type)
      if #found > most_of_task then return {'covered', unpack(found)} end
    end
  end
end

local function place_of(rule) return rule.group and 'group ' .. rule.group or rule.type and 'type ' .. rule.type end
local function write_place(place)
  local found = {}
  for _, rule in pairs(rules) do
    if place_of(rule) == place then found[#found + 1] = rule end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  if #found == 0 then
    redis.call('HDEL', key.rules_of, place)
  else
    redis.call('HSET', key.rules_of, place, cjson.encode(found))
  end
end
if before and place_of(before) then write_place(place_of(before)) end
if after then
  write_place(place_of(after))
  after.name = nil
  redis.call('HSET', key.rules, name, cjson.encode(after))
  after.name = name
  prepared(after)
else
  redis.call('HDEL', key.rules, name)
end
if not (before or after) then return {'set', now, 0} end
forget_held()

-- Whether both rules keep the same of tasks.
local function is_alike(one, other)
  return one and other and one.group == other.group and one.type == other.type and one.by == other.by
    and (one.fair or false) == (other.fair or false) and (one.ordered or false) == (other.ordered or false)
end

-- The groups in which the rule may cover tasks.
local function groups_of(rule)
  return rule.group and {rule.group} or redis.call('SMEMBERS', key.groups)
end

local alike = is_alike(before, after)
if not alike then
  redis.call('UNLINK', key.permits(name), key.parked(name), key.out(name), key.queued(name), key.arrivals(name), key.holders(name),
    key.turns(name))
end
if not (alike and after.rate) then redis.call('UNLINK', key.rates(name)) end
if after and not alike and not after.whole then
  for _, group in ipairs(groups_of(after)) do
    for _, id in ipairs(redis.call('ZRANGE', key.running(group), 0, -1)) do
      local t = read(id, FIELDS_OF_A_LIMIT)
      for _, pair in ipairs(t.queue and covering(t) or {}) do
        if pair[1].name == name then take_permits(t, {pair}) end
      end
    end
  end
end

local reply = {'set', now, before and 1 or 0}
local seen = {}
for _, rule in ipairs({before or after, after}) do
  if rule.group then
    note_group(rule.group)
    redis.call('SADD', key.label_groups, rule.group)
  end
  for _, group in ipairs(groups_of(rule)) do
    if not seen[group] and not paused[group] and redis.call('EXISTS', key.waiting(group), key.remote(group), key.remote_parked(group)) > 0 then
      redis.call('HSET', key.resuming, group, '0')
      reply[#reply + 1] = group
    end
    seen[group] = true
  end
end
return reply
