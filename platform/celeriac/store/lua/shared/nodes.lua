-- Nodes: a submission joins a workflow, which may begin with it.

-- What transitions use of this; each is described below.
local add_node, begin_workflow, follow_task, find_place, take_place

do
  -- Note a node of a workflow: its task, the type of that, and what it comes after ([{node, condition}, ...] as JSON). `batch`: 0 if
  -- the workflow was submitted with it, else nil.
  function add_node(workflow, node, id, task_type, after, batch)
    local place = redis.call('HLEN', key.workflow_nodes(workflow))
    redis.call('HSET', key.workflow_nodes(workflow), node, '{"task_id":' .. cjson.encode(id) .. ',"type":' .. cjson.encode(task_type)
      .. ',"after":' .. after .. ',"place":' .. int(place) .. (batch and ',"batch":' .. batch or '') .. '}')
  end

  -- Begin a workflow. `...`: further fields of its record, name and value.
  function begin_workflow(workflow, name, user, ...)
    redis.call('HSET', key.workflow(workflow), 'name', name, 'status', 'RUNNING', 'user_id', user or '', 'created_ms', now, 'rev', 0, ...)
    tell_workflow(workflow, 'begin')
  end

  -- The workflow of a task, which begins with the task if it is alone; nil if the store does not have it. Returns the workflow, and
  -- the node of the task.
  local function workflow_of(id)
    local t = read(id, {'workflow_id', 'node', 'type', 'status', 'started_ms', 'attempt', 'user_id'})
    if not t.status then return end
    if t.workflow_id then
      if redis.call('EXISTS', key.workflow(t.workflow_id)) == 1 then return t.workflow_id, t.node end
    else
      t.workflow_id, t.node = id, t.type
      redis.call('HSET', key.task(id), 'workflow_id', id, 'node', t.type)
      note_node(id, id, t.type)
    end
    begin_workflow(t.workflow_id, t.type, t.user_id)
    add_node(t.workflow_id, t.node, id, t.type, '[]')
    note_state(t.workflow_id, t.node, id, t.status, t.started_ms or '', t.attempt or '0')
    emit_workflow(t.workflow_id, 'RUNNING')
    return t.workflow_id, t.node
  end

  -- The first free name of a node like this one in a workflow: itself, or with #2, #3 and so on.
  local function free_name(workflow, node)
    if redis.call('HEXISTS', key.workflow_nodes(workflow), node) == 0 then return node end
    local number
    repeat
      -- The record counts the names that were given, so that this does not begin at 2 each time.
      number = redis.call('HINCRBY', key.workflow(workflow), 'named:' .. node, 1) + 1
    until redis.call('HEXISTS', key.workflow_nodes(workflow), node .. '#' .. int(number)) == 0
    return node .. '#' .. int(number)
  end

  -- A node belongs to one of Celery's groups. `place`: its place among the nodes of the workflow (count).
  local function note_member(workflow, group, place, node)
    redis.call('ZADD', key.workflow_groups(workflow), 0, group .. '\n' .. format('%08d', place) .. '\n' .. node)
  end

  -- The nodes that belong to one of Celery's groups, by their places.
  local function members_of(workflow, group)
    local found = redis.call('ZRANGEBYLEX', key.workflow_groups(workflow), '[' .. group .. '\n', '(' .. group .. '\n\255')
    for i, member in ipairs(found) do found[i] = string.sub(member, #group + 11) end
    return found
  end

  -- Where a call belongs that Celery publishes at the end of the task `further.follows`: to the workflow of that task, after it and
  -- after the members of the group `further.after_group`. If the task is alone, the call is not a node.
  function follow_task(further)
    local t = read(further.follows, {'workflow_id', 'node'})
    if not t.workflow_id then
      further.workflow_id, further.node = nil, nil
      return
    end
    further.workflow_id = t.workflow_id
    -- What a handler began is called after the node of its task.
    further.node = (string.match(t.node or '', '^.*/') or '') .. further.node
    local before = further.after_group and members_of(t.workflow_id, further.after_group) or {}
    local known = {}
    for _, node in ipairs(before) do known[node] = true end
    -- Without a group of its own it is the only one; in a chord, what failed may not be the last part that ended.
    local unmet = further.unmet_by and read(further.unmet_by, {'workflow_id', 'node'})
    for _, one in ipairs({t, unmet or nil}) do
      if one.workflow_id == t.workflow_id and not known[one.node] then
        known[one.node] = true
        before[#before + 1] = one.node
      end
    end
    local condition = ',"' .. (further.when or 'completed') .. '"]'
    for i, node in ipairs(before) do before[i] = '[' .. cjson.encode(node) .. condition end
    further.after = '[' .. table.concat(before, ',') .. ']'
  end

  -- Where a submission belongs that is to be a node. `further`: its fields and orders, see submit.lua; its workflow_id and node are
  -- set to what they are. Nothing is written yet, except that the workflow of the task that spawns it begins. Returns a refusal,
  -- or nil.
  function find_place(id, further, max_nodes)
    local workflow, node = further.workflow_id, further.node
    if further.spawned_by then
      local own_node
      workflow, own_node = workflow_of(further.spawned_by)
      if not workflow then return {'no_spawner', further.spawned_by} end
      node = own_node .. '/' .. node
    end
    if redis.call('HLEN', key.workflow_nodes(workflow)) >= max_nodes then return {'workflow_full', int(max_nodes)} end
    if further.numbered then
      node = free_name(workflow, node)
    elseif redis.call('HEXISTS', key.workflow_nodes(workflow), node) == 1 then
      return {'node_exists', node}
    end
    further.workflow_id, further.node = workflow, node
  end

  -- Make a submission a node of the workflow that `find_place` found. `after`: what it comes after, as in `add_node`.
  function take_place(id, further, task_type, user, after)
    local workflow = further.workflow_id
    local status, cancelled = unpack(redis.call('HMGET', key.workflow(workflow), 'status', 'cancelled'))
    if not status then
      begin_workflow(workflow, further.workflow_name or task_type, user)
      emit_workflow(workflow, 'RUNNING')
    end
    add_node(workflow, further.node, id, task_type, after)
    note_node(id, workflow, further.node)
    if further.in_group then
      note_member(workflow, further.in_group, redis.call('HLEN', key.workflow_nodes(workflow)), further.node)
    end
    if status == 'RUNNING' and cancelled then
      -- It is being cancelled as a whole.
      redis.call('RPUSH', key.workflow_orders(workflow), 'cancel\n' .. id)
      redis.call('ZADD', key.steering, 'NX', now, workflow)
    end
  end
end
