-- Submissions: one is taken in, with its record, its index, its event and its message, or nothing of it. submit.lua has the list of
-- its 20 values.

-- What holds for all submissions of this call. `planned`: they belong to a workflow that has been accepted (see plans.lua), so
-- that no limit refuses them, and their parents know of them.
local intake
on_call(function()
  intake = intake or {}
  intake.idempotency_ms, intake.max_scheduled, intake.max_groups, intake.max_made, intake.max_nodes = '0', 0, 0, 0, 0
  intake.planned = false
end)

-- What a kind says, as a table that nobody changes: most submissions have one that was there before.
local kind_of = lasting(cjson.decode)

-- Begin to take in submissions with these ids, or `planned` ones of a plan (count).
local begin_intake
-- Take in a submission. Returns what submit.lua answers for it.
local accept

do
  -- What the further fields hold that the record does not keep.
  local IS_ORDER = {slot_ms = true, deadline_in_ms = true, needs_worker = true, quiet = true, parents_of = true, spawned_by = true,
    numbered = true, after = true, workflow_name = true, held = true, follows = true, when = true, in_group = true, after_group = true,
    optional = true, unmet_by = true, unmet_status = true, on_conflict = true, once_ms = true, debounce_ms = true, debounce_first = true,
    max_delay_ms = true}
  local NOTHING = {}
  -- A limit that is never reached: what comes with it has been accepted elsewhere, so that no key refuses it either.
  local NO_LIMIT = 2 ^ 53

  -- Whether any of the ids was stored before this call: hardly ever, and one look at all of them tells.
  local any_stored, stored_here

  -- Numbers for all of the batch, taken when the first is needed.
  local batch_seq, batch_size
  on_call(function() any_stored, stored_here, batch_seq, batch_size = false, emptied(stored_here), nil, nil end)
  local function next_seq()
    batch_seq = batch_seq and batch_seq + 1 or take_seq(batch_size)
    return batch_seq
  end

  function begin_intake(ids, planned)
    if planned then
      intake.planned, any_stored, batch_seq, batch_size = true, true, nil, planned
      return
    end
    local records = {}
    for i, id in ipairs(ids) do records[i] = key.task(id) end
    any_stored, batch_size = redis.call('EXISTS', unpack(records)) > 0, #ids
  end

  -- The tasks that a submission depends on: {{t, condition}, ...}, `t` being what `hold_parent` looks at; how many of their
  -- conditions are open; and the first pair whose condition cannot be met any more. Only the place (from 0) of a task that it
  -- cannot depend on, if there is one.
  local function parents_in(further)
    local parents, open, unmet = {}, 0, nil
    for place, pair in ipairs(cjson.decode(further.depends_on)) do
      local t, condition = read(pair[1], {'status', 'dependants', 'user_id', 'workflow_id', 'node'}), pair[2]
      -- The parents of what was accepted are held, so only a foreign program can have removed one.
      if not t.status and intake.planned then t.status = 'CANCELLED' end
      if not t.status or (further.parents_of and t.user_id ~= further.parents_of) then return int(place - 1) end
      parents[place] = {t, condition}
      if not is_final(t.status) then
        open = open + 1
      elseif not unmet and further.on_unmet ~= 'run' and not is_met(condition, t.status) then
        unmet = parents[place]
      end
    end
    return parents, open, unmet
  end

  -- The parents of a task that has just been stored know of it. If one of them has ended otherwise than it was to, the task ends:
  -- returns its status then.
  local function join_parents(id, parents, unmet)
    local order = take_seq(1)
    for _, one in ipairs(parents) do hold_parent(id, one[1], one[2], order, intake.planned) end
    if not unmet then return end
    local parent, condition = unpack(unmet)
    return end_unmet(read(id, {'on_unmet', unpack(FIELDS_OF_AN_END)}), parent.id, condition, parent.status)
  end

  -- What a submission comes after in its workflow, as JSON: the parents that are nodes of it, unless it says that itself.
  local function nodes_before(further, parents)
    if further.after then return further.after end
    local before = {}
    for _, one in ipairs(parents) do
      local t, condition = one[1], one[2]
      if t.workflow_id == further.workflow_id and t.node then
        before[#before + 1] = '[' .. cjson.encode(t.node) .. ',"' .. condition .. '"]'
      end
    end
    return '[' .. table.concat(before, ',') .. ']'
  end

  -- How many wait in an index, those of this batch included.
  local waiting_count
  on_call(function() waiting_count = emptied(waiting_count) end)
  local function waiting_in(index, group, delivery)
    if not waiting_count[index] then waiting_count[index] = count_waiting(group, delivery) end
    return waiting_count[index]
  end

  -- The answer to a submission whose idempotency key or id is known, else nil.
  local function answer_of_known(id, nonce, idempotency_key)
    local first_id = idempotency_key ~= '' and redis.call('GET', key.prefix .. idempotency_key)
    if first_id and first_id ~= id then
      local first = read(first_id, {'status'})
      -- The key outlives a pruned record: then the key speaks for no task, and the work is new.
      if first.status then return {'known', first_id, first.status} end
    end
    if any_stored or stored_here[id] then
      local t = read(id, {'status', 'nonce'})
      if t.status then return {t.nonce == nonce and 'created' or 'known', id, t.status} end
      local kind = redis.call('TYPE', key.task(id)).ok
      if kind ~= 'hash' and kind ~= 'none' then return {'no_record', id} end
    end
  end

  -- The answer to a submission for which there is no room, else nil. `waiting`: how many wait where it is to wait. `asleep`: it waits
  -- for others or for a time.
  local function answer_of_full(further, group, maker, waiting, waiting_limit, waits, asleep)
    if asleep and redis.call('ZCARD', waits and key.suspended or key.delayed) >= intake.max_scheduled then
      return {'schedule_full', int(intake.max_scheduled)}
    end
    if further.needs_worker and redis.call('ZCOUNT', key.gateways(group), int(now_ms + 1), '+inf') == 0 then
      return {'no_worker', group}
    end
    if not asleep and waiting >= tonumber(waiting_limit) then return {'queue_full', waiting_limit} end
    return (asleep or waiting == 0) and answer_of_no_room(group, maker, intake.max_groups, intake.max_made) or nil
  end

  -- What `hint` looks at: one table for all, since a new one for each costs as much as a command.
  local waiting_task = {attempt = '0'}

  -- The fields of the record that is being built (name, value, ...), and how many there are.
  local new_fields, new_size
  local function put_field(name, value)
    new_fields[new_size + 1], new_fields[new_size + 2] = name, value
    new_size = new_size + 2
  end

  function accept(id, task_type, group, payload, priority, max_retries, delay_ms, run_at_ms, expires_in_ms,
    expires_at_ms, timeout_ms, user, metadata, idempotency_key, waiting_limit, delivery, further, nonce, maker, message)
    local known = answer_of_known(id, nonce, idempotency_key)
    if known then return known end

    local index = waiting_of(group, delivery)
    further = further ~= '' and cjson.decode(further) or NOTHING
    local expires, taking = moment(expires_at_ms, expires_in_ms), nil
    if further.once or further.debounce then
      local answer
      answer, taking = conflicts.answer(id, payload, nonce, further, expires)
      if answer then
        if idempotency_key ~= '' and answer[1] ~= 'duplicate' then
          redis.call('SET', key.prefix .. idempotency_key, answer[2], 'PX', intake.idempotency_ms)
        end
        return answer
      end
    end
    local due = moment(run_at_ms, delay_ms)
    local scheduled = due and due > now_ms
    local parents, open, unmet = NOTHING, 0, nil
    if further.depends_on then
      parents, open, unmet = parents_in(further)
      if intake.planned then work_left = work_left - #parents / 6 end
      if not open then return {'no_parent', parents} end
    elseif further.unmet_by then
      local known = fields(further.unmet_by, 'status')
      unmet = {{id = further.unmet_by, status = known and is_final(known) and known or further.unmet_status}, 'completed'}
    end
    local limited_task = {
      id = id, queue = group, type = task_type, key = further.key, user_id = user, cost = further.cost, delivery = delivery,
      priority = priority,
    }
    -- One that needs no worker begins to wait as soon as nothing else holds it up.
    local awaits = further.awaits and open == 0 and not unmet and not scheduled
    local waits = open > 0 or unmet or awaits
    local asleep = waits or scheduled
    if not intake.planned then
      local refusal = answer_of_full(further, group, maker, waiting_in(index, group, delivery), waiting_limit, waits, asleep)
      if not refusal and not asleep and not none_held() and intake.max_scheduled < NO_LIMIT then refusal = answer_of_full_key(limited_task) end
      if refusal then return refusal end
      if further.follows then follow_task(further) end
      refusal = further.node and find_place(id, further, intake.max_nodes)
      if refusal and not further.optional then return refusal end
      if refusal then further.workflow_id, further.node = nil, nil end
    end

    local status = waits and 'WAITING' or scheduled and 'SCHEDULED' or 'PENDING'
    -- What other programs read or write has all of its fields (docs/task-service.md).
    local is_short = status == 'PENDING' and delivery ~= 'external' and not further.original_file_path
    local event
    new_fields = {
      'type', task_type, 'queue', group, 'payload', payload, 'nonce', nonce, 'status', status, 'max_retries', max_retries,
    }
    new_size = #new_fields
    if not is_short then
      put_field('task_id', id)
      put_field('attempts_allowed', int(max_retries + 1))
      put_field('attempt', '0')
      put_field('created_at', now_text())
      put_field('updated_at', now_text())
      put_field('rev', '1')
    end
    if priority ~= '0' then put_field('priority', priority) end
    if delivery ~= '' then put_field('delivery', delivery) end
    if timeout_ms ~= '' then put_field('timeout_ms', timeout_ms) end
    if user ~= '' then put_field('user_id', user) end
    if metadata ~= '' then put_field('metadata', metadata) end
    if message ~= '' then put_field('message', message) end
    for name, value in pairs(further) do
      if not IS_ORDER[name] then put_field(name, value) end
    end
    if further.held then put_field('dependants', further.held) end
    if scheduled then put_field('run_at', rfc3339(due)) end
    if waits then
      if scheduled then put_field('due_ms', int(due)) end
      if not awaits then suspend(id, group) end
      note_group(group, maker)
    elseif scheduled then
      redis.call('ZADD', key.delayed, int(due), id)
      count_delayed(group, 1)
      note_group(group, maker)
    else
      local number = next_seq()
      local score = waiting_score(tonumber(priority), false, number)
      local held = withheld(limited_task, score)
      if not held and not further.quiet then
        waiting_task.id, waiting_task.type, waiting_task.queue, waiting_task.priority = id, task_type, group, priority
        waiting_task.delivery, waiting_task.payload = delivery, payload
        waiting_task.message, waiting_task.secret_fields = message ~= '' and message or nil, further.secret_fields
        -- The one step that may be refused: the key of the group's list may be somebody else's. What was accepted before counts as
        -- sent then: its message is lost like any other.
        if not hint(waiting_task, false, number) and not intake.planned then
          leave_queue(limited_task, covering(limited_task))
          return {'no_queue', group}
        end
      end
      if is_short then
        event = telling.announce(id, '1', false, 'status', 'status', status, 'attempt', '0', 'type', task_type, 'queue', group)
        put_field('life', life.begun(event))
      else
        put_field('pending_ms', now)
        put_field('hinted_ms', now)
      end
      if held or not is_short then put_field('hints', held and '0' or '1') end
      -- Counted before it is one of them.
      local others = waiting_in(index, group, delivery)
      if held ~= 'parked' or delivery ~= 'remote' then change('ZADD', index, score, id) end
      -- If others wait already, the group is known.
      if others == 0 then awaken(group, delivery, maker) end
      waiting_count[index] = others + 1
    end
    if expires then
      put_field('expires_ms', int(expires))
      put_field('expires_at', rfc3339(expires))
      redis.call('ZADD', key.expiring, int(expires), id)
    end
    if further.deadline_in_ms then
      local deadline = int(now_ms + tonumber(further.deadline_in_ms))
      put_field('deadline_ms', deadline)
      -- One that ends in this script is taken out of the index before what is gathered goes in.
      if not unmet then change('ZADD', key.deadlines, deadline, id) end
    end
    redis.call('HSET', key.task(id), unpack(new_fields))
    stored_here[id] = true
    if idempotency_key ~= '' then redis.call('SET', key.prefix .. idempotency_key, id, 'PX', intake.idempotency_ms) end
    if user ~= '' and not unmet then change('ZADD', key.active(user), now, id) end
    count('s' .. SEP .. group .. SEP .. task_type, 1)
    if further.slot_ms then count_duration('d', SEP .. group, math.max(0, now_ms - tonumber(further.slot_ms))) end
    if further.node and not intake.planned then
      take_place(id, further, task_type, user, nodes_before(further, parents))
    else
      note_node(id, further.workflow_id, further.node)
    end
    -- Nobody can be watching the task yet, so nobody is woken.
    if is_short then
      telling.spread(id, user, event, 'status', 'status', status, 'attempt', '0', 'type', task_type, 'queue', group)
    else
      telling.append(id, user, '1', 'status', 'status', status, 'attempt', '0', 'type', task_type, 'queue', group)
    end
    if further.depends_on or unmet then status = join_parents(id, parents, unmet) or status end
    if awaits then begin_to_wait({id = id, queue = group, user_id = user, attempt = '0', awaits = further.awaits}) end
    if taking then conflicts.take(id, further, taking) end
    return {'created', id, status}
  end
end
