-- Read what a task waits for, all of one moment. It uses shared parts, as transitions do.
--
-- ARGV[4] the task's id (text)
--
-- Returns {status, group, type, delivery, due_ms, position, paused, limits, replaced_by}, texts, '' for what it does not have: when it
-- is due if it waits for a time (ms); its place among those that wait in its group (1: the next one); the pause of the group (JSON);
-- the rules that have no room for it (JSON array of objects: rule (name, absent for what somebody else's service told to wait), by,
-- bucket, running and max_running (counts) of one that is full, rate with per_ms and starts_ms (when it may start at the earliest, ms
-- since the epoch), holder (id of the task that has the turn of an ordered rule), closed_ms (until when it is closed)); the id of what has
-- replaced it.
-- Returns {} if there is no such task.

local id = ARGV[4]

local t = read(id, {'status', 'replaced_by', unpack(FIELDS_OF_A_LIMIT)})
if not t.status then return {} end

local group, delivery = t.queue or '', t.delivery or ''
local due_ms = redis.call('ZSCORE', key.delayed, id)

-- Its place: among those that are out and those that are parked.
local function position()
  if delivery ~= 'remote' then
    local rank = redis.call('ZRANK', key.waiting(group), id)
    return rank and rank + 1
  end
  local score = t.queue and score_of(t)
  if not score then return end
  return redis.call('ZCOUNT', key.remote(group), '-inf', '(' .. int(score)) + redis.call('ZCOUNT', key.remote_parked(group), '-inf', '(' .. int(score)) + 1
end

-- How a rule keeps the task waiting, nil if it does not.
local function how(rule, bucket, rank)
  local found = {rule = rule.name ~= '' and rule.name or nil, by = rule.by or 'key', bucket = bucket}
  if rule.closed_until then
    found.closed_ms = int(rule.closed_until)
    found.bucket = string.match(bucket, '\31(.*)$')
    return found
  end
  local any = false
  if rule.ordered and not is_next(rule, bucket, id) then
    local holder = first_in(key.holders(rule.name), bucket) or first_in(key.arrivals(rule.name), bucket)
    any, found.holder = true, holder and id_in(holder)
  end
  local running = rule.max_running and running_in(rule, bucket)
  if running and running >= rule.max_running then
    any, found.running, found.max_running = true, running, rule.max_running
  end
  if rule.every then
    local starts, next_start = free_starts(rule, bucket)
    -- Those before it start first.
    local ahead = rule.by == 'all' and rank - 1 or 0
    if starts <= ahead then
      any, found.rate, found.per_ms = true, rule.rate, rule.per_ms
      found.starts_ms = int(math.ceil(math.max(next_start - rule.early + ahead * rule.every, now_ms)))
    end
  end
  return any and found or nil
end

local place = t.status == 'PENDING' and position()
local limits = {}
if place and delivery ~= 'external' then
  for _, pair in ipairs(covering(t)) do
    local found = how(pair[1], pair[2], place)
    if found then limits[#limits + 1] = cjson.encode(found) end
  end
end
return {t.status, group, t.type or '', delivery, due_ms or '', place and int(place) or '',
  paused[group] and redis.call('HGET', key.paused, group) or '', #limits > 0 and '[' .. table.concat(limits, ',') .. ']' or '',
  t.replaced_by or ''}
