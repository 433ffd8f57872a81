-- Attempts: how one starts, and how it is taken from its worker. `t` is a record that `read` returned; its fields say how the
-- task was before the move, and those that other moves look at are set to what they are after it.

-- What `start` looks at.
local FIELDS_OF_A_START = {'status', 'queue', 'type', 'key', 'attempt', 'rev', 'user_id', 'expires_ms', 'run_at', 'pending_ms',
  'resumes', 'workflow_id', 'node'}

-- Start the next attempt of a task, or the one that was suspended: PENDING -> PROCESSING. The caller takes it out of the index in
-- which it waited.
-- `lease_until`: when it counts as lost if nobody renews it (ms since the epoch, text), false if nobody holds a lease on it.
-- `...`: further fields of the record, name and value. `t`: FIELDS_OF_A_START, life. Returns the number of the attempt (text).
local function start(t, worker, lease_until, ...)
  local id, queue = t.id, t.queue
  note_node(id, t.workflow_id, t.node)
  local ran_ms = t.resumes
  local attempt, rev = int(tonumber(t.attempt or 0) + (ran_ms and 0 or 1)), next_rev(t.rev)
  local started_ms = ran_ms and int(now_ms - tonumber(ran_ms)) or now
  -- What has started is not among what may expire any more.
  if t.expires_ms then change('ZREM', key.expiring, id) end
  if lease_until then change('ZADD', key.leases, lease_until, id) end
  change('ZADD', key.running(queue), now, id)
  take_permits(t, covering(t))
  if life.may_start(t.life) then
    local event = telling.announce(id, rev, false, 'status', 'status', 'PROCESSING', 'attempt', attempt, 'worker', worker)
    t.life = life.after(t.life, 'PROCESSING', event)
    redis.call('HSET', key.task(id), 'status', 'PROCESSING', 'owner', worker, 'life', t.life, ...)
    telling.spread(id, t.user_id, event, 'status', 'status', 'PROCESSING', 'attempt', attempt, 'worker', worker)
    telling.wake(id, event, 'status', 'status', 'PROCESSING')
  else
    if t.life then life.write_out(t) end
    -- Left over from the attempt before and from the wait.
    if attempt ~= '1' or t.run_at or ran_ms then
      redis.call('HDEL', key.task(id), 'progress_seq', 'run_at', 'delta_seq', 'resumes')
    end
    redis.call('HSET', key.task(id), 'status', 'PROCESSING', 'attempt', attempt, 'owner', worker,
      'started_at', now_text(), 'started_ms', started_ms, 'updated_at', now_text(), 'rev', rev, ...)
    emit_as(id, t.user_id, rev, 'status', 'status', 'PROCESSING', 'attempt', attempt, 'worker', worker)
    t.life = false
  end
  if ran_ms then
    count_waited(queue, t.pending_ms)
  else
    count_start(queue, t.type or '', t.status == 'PENDING' and t.pending_ms)
  end
  t.status, t.attempt, t.rev, t.started_ms = 'PROCESSING', attempt, rev, started_ms
  return attempt
end

-- Take a running task from the worker that has it: back to the front of its group while attempts are left, else FAILED;
-- CANCELLED if somebody asked for that. Returns the new status.
-- `t`: attempts_allowed, cancel_requested, FIELDS_OF_AN_END
local function take_back(t, code, message)
  if t.cancel_requested or t.revoked then
    settle(t, 'CANCELLED', false, {'cancelled', 'cancelled; ' .. message, '0'})
    return 'CANCELLED'
  end
  local id, again = t.id, tonumber(t.attempt) < tonumber(t.attempts_allowed)
  log_failure(id, t.attempt, again and 'warning' or 'error', code, message)
  if again then
    count_lost_attempt('l', t.queue, t.type, t.started_ms)
    show(t, 'PENDING', {code, message})
    life.write_out(t)
    unindex(t)
    redis.call('HSET', key.task(id), 'error_code', code, 'error_message', message, 'error_retryable', '1',
      'redelivered', int(tonumber(t.attempt) + 1))
    redis.call('HDEL', key.task(id), 'owner', 'fence')
    enqueue(id, true)
    return 'PENDING'
  end
  count('l' .. SEP .. t.queue .. SEP .. (t.type or ''), 1)
  -- `log_failure` may just have begun the log.
  t.log_seq = true
  settle(t, 'FAILED', false, {code, message, '1'})
  return 'FAILED'
end

-- End a task whose deadline has passed, whatever it is doing, and tell the worker that runs it. Returns its status, '' if it
-- has none.
local function time_out(id)
  local t = read(id, FIELDS_OF_AN_END)
  local status = t.status
  if not status or is_final(status) then
    change('ZREM', key.deadlines, id)
    return status or ''
  end
  if status == 'PROCESSING' then
    redis.call('PUBLISH', key.cancels, id)
    log_failure(id, t.attempt, 'error', 'timeout', 'Task timeout')
    t.log_seq = true
  end
  settle(t, 'FAILED', false, {'timeout', 'Task timeout', '0'})
  return 'FAILED'
end

-- What `give_back` looks at, and its callers.
local FIELDS_OF_A_RETURN = {'fence', 'cancel_requested', 'moved', 'expires_ms', 'attempts_before', unpack(FIELDS_OF_AN_END)}

-- Give a running task back to the front of its group; the attempt does not count. One that has kept steps or signals goes on as the
-- same attempt. The caller has checked its fence. `t`: FIELDS_OF_A_RETURN. Returns its new status.
local function give_back(t, fence)
  local id, task = t.id, key.task(t.id)
  if t.revoked then
    settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
    return 'CANCELLED'
  end
  life.write_out(t)
  unindex(t)
  redis.call('HSET', task, 'moved', fence, 'redelivered', t.attempt)
  if t.noted then
    redis.call('HSET', task, 'resumes', int(math.max(0, now_ms - tonumber(t.started_ms or now))))
  else
    local attempt = tonumber(t.attempt) - 1
    redis.call('HSET', task, 'attempt', int(attempt))
    -- Its first start did not happen, so that may be too late again.
    if t.expires_ms and attempt == tonumber(t.attempts_before or 0) then redis.call('ZADD', key.expiring, t.expires_ms, id) end
  end
  -- The next run has the same number, and counts its reports and parts from the beginning.
  redis.call('HDEL', task, 'owner', 'fence', 'started_at', 'started_ms', 'progress_seq', 'delta_seq', 'delta_bytes')
  enqueue(id, true)
  return 'PENDING'
end
