-- Dependencies: a task can wait for the ends of others, its parents.
--
-- The field `depends_on` of its record has them: a JSON list of {id, condition}. While a condition is open, the task is
-- WAITING: it is in key.suspended, key.open_conditions(id) has its open conditions, and each of those parents has it in
-- key.dependants(parent), from which it is taken exactly once. The parent's record counts in `dependants` the tasks that
-- depend on it and have not ended: so long it is kept, whatever its retention, because they may read it.
--
-- What a parent's end does to its dependants is done in the script that ends it, up to a limit (see ends.lua); promote.lua goes on.

-- What one call does at most for dependants, in units of about 60 µs: less than 20 ms.
local work_left
on_call(function() work_left = 300 end)

-- Whether the end of a parent meets a condition: 'completed', 'failed' or 'ended'.
local function is_met(condition, status)
  return condition == 'ended' or (condition == 'completed' and status == 'COMPLETED')
    or (condition == 'failed' and status == 'FAILED')
end

-- A record is kept, because a task that has not ended may read it. `parent`: status. `counted`: the record counts that task already.
local function hold(parent, counted)
  if not counted then redis.call('HINCRBY', key.task(parent.id), 'dependants', 1) end
  if is_final(parent.status) then keep(parent.id) end
end

-- A task waits for the end of another one. `order`: its place among those that do (count).
local function listen(id, parent, condition, order)
  redis.call('HSET', key.open_conditions(id), parent, condition)
  redis.call('ZADD', key.dependants(parent), order, id)
end

-- A task depends on a parent from now on, whose record is read as `parent`: status. `order`: as `listen`. `counted`: as `hold`.
local function hold_parent(id, parent, condition, order, counted)
  hold(parent, counted)
  if not is_final(parent.status) then listen(id, parent.id, condition, order) end
end

-- A task has ended that held the record of another one: the retention of that runs from now, if it has ended and nobody else holds
-- it. `waited`: it may have waited for its end.
local function let_go_of(id, parent, waited)
  work_left = work_left - 0.1
  if waited then redis.call('ZREM', key.dependants(parent), id) end
  local status, dependants, own_retention_ms, log_seq, noted =
    fields(parent, 'status', 'dependants', 'retention_ms', 'log_seq', 'noted')
  if tonumber(dependants or 0) > 1 then
    redis.call('HINCRBY', key.task(parent), 'dependants', -1)
  elseif dependants then
    redis.call('HDEL', key.task(parent), 'dependants')
    if is_final(status) then leave_after(parent, own_retention_ms or int(retention_ms), log_seq, noted) end
  end
end

-- Let go of the parents of a task that has ended.
local function let_parents_go(id, depends_on, waited)
  for _, pair in ipairs(cjson.decode(depends_on)) do let_go_of(id, pair[1], waited) end
end

-- The ids of the tasks that a task has submitted as parts of its work: its children. It holds them as it does parents.
local function children_of(id)
  local names, children = {}, {}
  for _, name in ipairs(redis.call('HKEYS', key.steps(id))) do
    if string.sub(name, 1, 6) == 'child:' then names[#names + 1] = name end
  end
  for first = 1, #names, 1000 do
    local noted = redis.call('HMGET', key.steps(id), unpack(names, first, math.min(first + 999, #names)))
    for _, text in ipairs(noted) do
      local number, child = string.match(text, '^(%d+) %d+ %d+ (.*)$')
      if number ~= '0' then children[#children + 1] = child end
    end
  end
  return children
end

-- Let go of the children of a task that has ended.
local function let_children_go(id, waited)
  for _, child in ipairs(children_of(id)) do let_go_of(id, child, waited) end
end

-- Start what has waited, or let its suspended attempt go on: WAITING -> PENDING, or SCHEDULED if it is not due yet. Nothing is open
-- any more. `t`: queue, user_id, due_ms, attempt
local function unsuspend(t)
  end_wait(t)
  if t.due_ms and tonumber(t.due_ms) > now_ms then
    redis.call('HDEL', key.task(t.id), 'due_ms')
    delay(t.id, t.queue, 'SCHEDULED', tonumber(t.due_ms))
    emit(t.id, t.user_id, 'status', 'status', 'SCHEDULED', 'attempt', t.attempt)
  else
    enqueue(t.id, false)
  end
end
