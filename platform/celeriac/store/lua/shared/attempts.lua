-- Attempts: how one starts, and how it ends. `t` is a record that `read` returned; its fields say how the task was before
-- the move, and those that other moves look at are set to what they are after it.

-- What `start` looks at.
local FIELDS_OF_A_START = {'status', 'queue', 'type', 'attempt', 'rev', 'user_id', 'expires_ms', 'run_at', 'pending_ms'}

-- Start the next attempt of a task: PENDING -> PROCESSING. The caller takes it out of the index in which it waited.
-- `lease_until`: when it counts as lost if nobody renews it (ms since the epoch, text), false if nobody holds a lease on it.
-- `...`: further fields of the record, name and value. `t`: FIELDS_OF_A_START. Returns the number of the attempt (text).
local function start(t, worker, lease_until, ...)
  local id, queue = t.id, t.queue
  local attempt, rev = int(tonumber(t.attempt or 0) + 1), next_rev(t.rev)
  -- What has started is not among what may expire any more.
  if t.expires_ms then change('ZREM', key.expiring, id) end
  if lease_until then change('ZADD', key.leases, lease_until, id) end
  change('ZADD', key.running(queue), now, id)
  -- Left over from the attempt before and from the wait.
  if attempt ~= '1' or t.run_at then redis.call('HDEL', key.task(id), 'progress_seq', 'run_at', 'delta_seq') end
  redis.call('HSET', key.task(id), 'status', 'PROCESSING', 'attempt', attempt, 'owner', worker,
    'started_at', now_text, 'started_ms', now, 'updated_at', now_text, 'rev', rev, ...)
  emit_as(id, t.user_id, rev, 'status', 'status', 'PROCESSING', 'attempt', attempt, 'worker', worker)
  count_start(queue, t.type or '', t.status == 'PENDING' and t.pending_ms)
  t.status, t.attempt, t.rev, t.started_ms = 'PROCESSING', attempt, rev, now
  return attempt
end

-- Tell the process that waits for a task how it ended: 'ID\nSTATUS\nCODE\nTEXT', TEXT being the result (JSON) or the
-- message. A result too large to be sent around is left to be read: its CODE is 'large'.
local function notice(channel, id, status, result, failure)
  local code, text = '', result
  if failure then
    code, text = failure[1], failure[2]
  elseif #result > 65536 then
    code, text = 'large', ''
  end
  redis.call('PUBLISH', channel, id .. '\n' .. status .. '\n' .. code .. '\n' .. text)
end

-- What `settle` looks at.
local FIELDS_OF_AN_END = {'status', 'queue', 'attempt', 'rev', 'retention_ms', 'user_id', 'type', 'started_ms', 'delivery',
  'reply_to', 'log_seq'}

-- Give a task its final status. Its indexes are gone afterwards and its retention runs. Either `result` is JSON text and
-- `failure` nil, or `failure` is {code, message, retryable '0'|'1'}. `t`: FIELDS_OF_AN_END
local function settle(t, status, result, failure)
  local id, queue, attempt, user = t.id, t.queue, t.attempt, t.user_id
  local task, labels = key.task(id), SEP .. queue .. SEP .. (t.type or '')
  local rev, kept_ms = next_rev(t.rev), t.retention_ms or int(retention_ms)
  count('f' .. labels .. SEP .. status, 1)
  if t.status == 'PROCESSING' then
    if t.started_ms then count_duration('r', labels, now_ms - t.started_ms) end
  else
    -- What has started is not among what may expire any more.
    change('ZREM', key.expiring, id)
  end
  unindex(t)
  if failure then
    redis.call('HSET', task, 'status', status, 'updated_at', now_text, 'finished_at', now_text, 'rev', rev,
      'error_code', failure[1], 'error_message', failure[2], 'error_retryable', failure[3])
    emit_as(id, user, rev, 'status', 'status', status, 'attempt', attempt, 'code', failure[1], 'message', failure[2],
      'retryable', failure[3])
  else
    redis.call('HSET', task, 'status', status, 'updated_at', now_text, 'finished_at', now_text, 'rev', rev, 'result', result)
    emit_as(id, user, rev, 'status', 'status', status, 'attempt', attempt)
  end
  note_ended(user, id, kept_ms)
  redis.call('PEXPIRE', task, kept_ms)
  redis.call('PEXPIRE', key.task_events(id), kept_ms)
  if t.log_seq then redis.call('PEXPIRE', key.log(id), kept_ms) end
  if t.delivery == 'remote' then
    change('ZREM', key.deadlines, id)
    if t.reply_to then notice(t.reply_to, id, status, result, failure) end
  end
end

-- Take a running task from the worker that has it: back to the front of its group while attempts are left, else FAILED;
-- CANCELLED if somebody asked for that. Returns the new status.
-- `t`: attempts_allowed, cancel_requested, FIELDS_OF_AN_END
local function take_back(t, code, message)
  if t.cancel_requested then
    settle(t, 'CANCELLED', false, {'cancelled', 'cancelled; ' .. message, '0'})
    return 'CANCELLED'
  end
  local id, again = t.id, tonumber(t.attempt) < tonumber(t.attempts_allowed)
  log_failure(id, t.attempt, again and 'warning' or 'error', code, message)
  if again then
    count_lost_attempt('l', t.queue, t.type, t.started_ms)
    unindex(t)
    redis.call('HSET', key.task(id), 'error_code', code, 'error_message', message, 'error_retryable', '1')
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
