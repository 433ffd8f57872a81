-- Plans: a workflow is accepted as a whole, and then its nodes are stored in steps of bounded length.
--
-- key.workflow_plan(id) is a list of the submissions that are still to be stored, in an order in which each comes after its parents:
-- MessagePack arrays of the 20 values of submit.lua. From the acceptance on, the record of each parent counts its dependants in the
-- plan, so that it stays. key.workflow_orders(id) is a list of what is still to be done to the nodes: 'cancel\nTASK', 'cancel_all\n'
-- and a cursor, 'retry\nTASK\nNONCE'. The workflow is in key.steering while either has something; steer.lua goes on with it.

-- Go on with what is to be done to a workflow. Returns whether something is left.
local steer

do
  -- Store the next submissions of a plan, as far as there is time in this script.
  local function store_planned(workflow)
    local plan = key.workflow_plan(workflow)
    local length = redis.call('LLEN', plan)
    if length == 0 then return end
    begin_intake(nil, length)
    while work_left > 0 do
      local packed = redis.call('LINDEX', plan, 0)
      if not packed then break end
      local values = cmsgpack.unpack(packed)
      work_left = work_left - 2
      accept(unpack(values, 1, 20))
      redis.call('LPOP', plan)
    end
    intake.planned = false
  end

  -- Whether a task that was cancelled or failed because of a parent may run again: one of its parents runs again, and no other one
  -- ended otherwise than it was to. `t`: depends_on, on_unmet
  local function may_hope(t)
    local hope = false
    for _, pair in ipairs(t.depends_on and cjson.decode(t.depends_on) or {}) do
      local status = fields(pair[1], 'status')
      work_left = work_left - 0.1
      if not is_final(status) then
        hope = hope or status ~= false
      elseif t.on_unmet ~= 'run' and not is_met(pair[2], status) then
        return false
      end
    end
    return hope
  end

  -- Do one thing to a task of a workflow, if it is still to be done.
  local function carry_out(verb, id, nonce)
    work_left = work_left - 3
    if verb == 'cancel' then
      local t = read(id, FIELDS_OF_A_CANCELLATION)
      if t.status and not is_final(t.status) then cancel_task(t, 'its workflow was cancelled') end
      return
    end
    local t = read(id, FIELDS_OF_A_RETRY)
    if (t.status ~= 'FAILED' and t.status ~= 'CANCELLED') or t.moved == nonce or t.notified then return end
    if t.error_code == 'dependency_failed' and not may_hope(t) then return end
    run_again(t, nonce)
  end

  -- Carry out the orders for the nodes of a workflow, as far as there is time in this script.
  local function carry_out_orders(workflow)
    local orders = key.workflow_orders(workflow)
    while work_left > 0 do
      local order = redis.call('LINDEX', orders, 0)
      if not order then return end
      local verb, what, nonce = string.match(order, '^(%l[%l_]*)\n([^\n]*)\n?(.*)$')
      if verb == 'cancel_all' then
        local scanned = redis.call('HSCAN', key.workflow_nodes(workflow), what, 'COUNT', 100)
        for i = 2, #scanned[2], 2 do redis.call('RPUSH', orders, 'cancel\n' .. cjson.decode(scanned[2][i]).task_id) end
        work_left = work_left - #scanned[2] / 10
        if scanned[1] ~= '0' then redis.call('RPUSH', orders, 'cancel_all\n' .. scanned[1]) end
      else
        carry_out(verb, what, nonce)
      end
      redis.call('LPOP', orders)
    end
  end

  function steer(workflow)
    store_planned(workflow)
    local planned = redis.call('EXISTS', key.workflow_plan(workflow)) == 1
    if not planned then carry_out_orders(workflow) end
    if planned or redis.call('EXISTS', key.workflow_orders(workflow)) == 1 then
      redis.call('ZADD', key.steering, 'NX', now, workflow)
      return true
    end
    redis.call('ZREM', key.steering, workflow)
    -- None of those that were to run again may have been able to.
    if redis.call('HGET', key.workflow(workflow), 'status') == 'RUNNING' then end_workflow(workflow) end
    return false
  end
end
