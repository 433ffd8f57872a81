-- Accept a workflow, or more nodes for one: all of them or nothing. The first nodes are stored at once, the others by steer.lua.
--
-- ARGV[4] life of an idempotency key (ms)   ARGV[5] most tasks that may wait for a time (count)
-- ARGV[6] most known groups that callers made (count)   ARGV[7] most known groups that one caller made (count)
-- ARGV[8] most nodes of a workflow (count)
-- ARGV[9] workflow (text)   ARGV[10] '1' = it begins, '' = nodes are added to it
-- ARGV[11] name (text)   ARGV[12] user (text), '' for none   ARGV[13] metadata (JSON object), '' for none
-- ARGV[14] idempotency key (Redis key without key.prefix), '' for none   ARGV[15] nonce of this call (text)
-- ARGV[16..] 23 values per node, each node after its parents: 1 name (text)   2 what it comes after (JSON: [[node, condition], ...])
--   3 the parents that are not among these nodes (JSON array of ids)   4.. the 20 values of submit.lua
--
-- Returns {'created', workflow, '1' if nodes are still to be stored, else ''} | {'known', workflow} (by its idempotency key) |
-- {'unknown'} (there is no such workflow) | {'ended', status} | {'node_exists', node} | {'workflow_full', limit} |
-- {'schedule_full', limit} | {'queue_full', limit, group} | {'key_full', ...} (as submit.lua) | {'no_queue', group} | {'groups_full', limit, 'caller' or 'all', group} |
-- {'no_parent', node (from 0), id}.
-- A repeated call (its reply was lost) answers 'created' again.

local idempotency_ms = ARGV[4]
local most = {scheduled = tonumber(ARGV[5]), groups = tonumber(ARGV[6]), made = tonumber(ARGV[7]), nodes = tonumber(ARGV[8])}
local workflow, begins, name, user, metadata, idempotency_key, nonce = ARGV[9], ARGV[10] == '1', ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local FIRST, WIDTH = 16, 23

local nodes = {}
for base = FIRST, #ARGV, WIDTH do
  nodes[#nodes + 1] = {
    name = ARGV[base], after = ARGV[base + 1], parents = ARGV[base + 2], id = ARGV[base + 3], type = ARGV[base + 4],
    group = ARGV[base + 5], payload = ARGV[base + 6], priority = ARGV[base + 7], due = moment(ARGV[base + 10], ARGV[base + 9]),
    waiting_limit = ARGV[base + 17], delivery = ARGV[base + 18], maker = ARGV[base + 21],
    values = {unpack(ARGV, base + 3, base + 22)},
  }
end

-- The answer to a call that has been heard before, or that this workflow cannot take, else nil.
local function answer_of_state()
  local status, heard = unpack(redis.call('HMGET', key.workflow(workflow), 'status', 'nonce'))
  if begins then
    if status and heard == nonce then return {'created', workflow, redis.call('EXISTS', key.workflow_plan(workflow)) == 1 and '1' or ''} end
    local first = idempotency_key ~= '' and redis.call('GET', key.prefix .. idempotency_key)
    if first and redis.call('EXISTS', key.workflow(first)) == 1 then return {'known', first} end
    return
  end
  if not status then return {'unknown'} end
  for _, node in ipairs(nodes) do
    local there = redis.call('HGET', key.workflow_nodes(workflow), node.name)
    if there and cjson.decode(there).task_id == node.id then
      return {'created', workflow, redis.call('EXISTS', key.workflow_plan(workflow)) == 1 and '1' or ''}
    end
    if there then return {'node_exists', node.name} end
  end
  if status ~= 'RUNNING' then return {'ended', status} end
  if redis.call('HEXISTS', key.workflow(workflow), 'cancelled') == 1 then return {'ended', 'CANCELLED'} end
end

-- The parents outside of this call that the nodes depend on: id -> {t, how many nodes depend on it}.
local outside = {}
local function answer_of_parents()
  for place, node in ipairs(nodes) do
    local parents_of = string.find(node.values[17], '"parents_of"', 1, true) and cjson.decode(node.values[17]).parents_of
    for _, id in ipairs(cjson.decode(node.parents)) do
      if not outside[id] then outside[id] = {read(id, {'status', 'user_id'}), 0} end
      local t = outside[id][1]
      if not t.status or (parents_of and t.user_id ~= parents_of) then return {'no_parent', place - 1, id} end
      outside[id][2] = outside[id][2] + 1
    end
  end
end

-- The answer if there is no room for all nodes, else nil.
local function answer_of_room()
  if redis.call('HLEN', key.workflow_nodes(workflow)) + #nodes > most.nodes then return {'workflow_full', int(most.nodes)} end
  local waits, sleeps, starting, seen, coming = 0, 0, {}, {}, {}
  for _, node in ipairs(nodes) do
    local scheduled = node.due and node.due > now_ms
    -- One that needs no worker waits, too.
    if node.after ~= '[]' or node.parents ~= '[]' or string.find(node.values[17], '"awaits"', 1, true) then
      waits = waits + 1
    elseif scheduled then
      sleeps = sleeps + 1
    else
      local index = waiting_of(node.group, node.delivery)
      starting[index] = (starting[index] or redis.call('ZCARD', index)) + 1
      if starting[index] > tonumber(node.waiting_limit) then return {'queue_full', node.waiting_limit, node.group} end
      local further = not none_held() and node.values[17] ~= '' and cjson.decode(node.values[17])
      local of_rules = {queue = node.group, type = node.type, key = further and further.key, user_id = node.values[12]}
      local full = not none_held() and answer_of_full_key(of_rules, coming)
      if full then return full end
    end
    if not seen[node.group] then
      seen[node.group] = true
      local no_room = answer_of_no_room(node.group, node.maker, most.groups, most.made)
      if no_room then return {no_room[1], no_room[2], no_room[3], node.group} end
      local list = node.delivery == '' and celery_list(node.group, tonumber(node.priority)) or node.delivery == 'external' and key.external
      local kind = list and redis.call('TYPE', list).ok
      if list and kind ~= 'list' and kind ~= 'none' then return {'no_queue', node.group} end
    end
  end
  if waits > 0 and redis.call('ZCARD', key.suspended) + waits > most.scheduled then return {'schedule_full', int(most.scheduled)} end
  if sleeps > 0 and redis.call('ZCARD', key.delayed) + sleeps > most.scheduled then return {'schedule_full', int(most.scheduled)} end
end

local refusal = answer_of_state() or answer_of_parents() or answer_of_room()
if refusal then return refusal end

for id, one in pairs(outside) do
  redis.call('HINCRBY', key.task(id), 'dependants', one[2])
  if is_final(one[1].status) then keep(id) end
end
if begins then
  begin_workflow(workflow, name, user, 'nonce', nonce)
  if metadata ~= '' then redis.call('HSET', key.workflow(workflow), 'metadata', metadata) end
  if idempotency_key ~= '' then redis.call('SET', key.prefix .. idempotency_key, workflow, 'PX', idempotency_ms) end
end
for _, node in ipairs(nodes) do
  add_node(workflow, node.name, node.id, node.type, node.after, begins and 0)
  redis.call('RPUSH', key.workflow_plan(workflow), cmsgpack.pack(node.values))
end
work_left = work_left - #nodes / 4
emit_workflow(workflow, 'RUNNING')
return {'created', workflow, steer(workflow) and '1' or ''}
