-- Into the queue and out of it: the moves to PENDING, SCHEDULED and RETRYING, and out of every index.

-- Move a stored task to PENDING and send its message, unless it is held back. The caller has checked the status.
-- `hints` counts the messages that may be out: one more with each sent, one less with each that came to a claim.
-- One that needs no worker begins to wait instead. `...`: further fields of the event, name and value.
local function enqueue(id, front, ...)
  local t = read(id, {'hints', 'user_id', 'awaits', 'workflow_id', 'node', 'key', 'cost', unpack(FIELDS_OF_A_HINT)})
  note_node(id, t.workflow_id, t.node)
  if t.awaits then return begin_to_wait(t) end
  local seq = take_seq(1)
  local score = waiting_score(tonumber(t.priority or 0) or 0, front, seq)
  local held = withheld(t, score)
  if held ~= 'parked' or t.delivery ~= 'remote' then redis.call('ZADD', waiting_of(t.queue, t.delivery), score, id) end
  awaken(t.queue, t.delivery or '')
  redis.call('HSET', key.task(id), 'status', 'PENDING', 'updated_at', now_text(), 'pending_ms', now, 'hinted_ms', now,
    'hints', int(tonumber(t.hints or 0) + (held and 0 or 1)))
  if not held then hint(t, front, seq) end
  emit(id, t.user_id, 'status', 'status', 'PENDING', 'attempt', int(tonumber(t.attempt or 0)), ...)
  if not counted then let_others_go() end
end

-- Put a task of a group to sleep until `due_ms`, as SCHEDULED or RETRYING.
local function delay(id, group, status, due_ms)
  redis.call('ZADD', key.delayed, int(due_ms), id)
  count_delayed(group, 1)
  redis.call('HSET', key.task(id), 'status', status, 'updated_at', now_text(), 'run_at', rfc3339(due_ms))
  if not counted then let_others_go() end
end

-- A running task has left its worker. `t`: queue, type, key, user_id
local function leave_running(t)
  local covered = covering(t)
  change('ZREM', key.running(t.queue), t.id)
  give_permits(t, covered)
  vacate(covered)
end

-- Take a task out of every index that its status puts it in. The others that may go on for that do so once it is where it belongs:
-- at the end of `enqueue`, `delay` and `settle`, or of the batch. `t`: status, queue, type, key, user_id, delivery, priority
local function unindex(t)
  local id, status, queue = t.id, t.status, t.queue
  if status == 'PROCESSING' then
    change('ZREM', key.leases, id)
    leave_running(t)
  elseif status == 'PENDING' then
    local covered = covering(t)
    leave_queue(t, covered)
    vacate(covered)
    change('ZREM', waiting_of(queue, t.delivery), id)
  elseif status == 'SCHEDULED' or status == 'RETRYING' then
    change('ZREM', key.delayed, id)
    count_delayed(queue, -1)
    if status == 'RETRYING' then leave_queue(t, covering(t)) end
  elseif status == 'WAITING' then
    end_wait(t)
  end
end
