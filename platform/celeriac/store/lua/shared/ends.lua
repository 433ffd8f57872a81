-- Ends: how a task gets its final status, and what that does to the tasks that wait for it. `t` is a record that `read` returned;
-- its fields say how the task was before that.

-- What `settle` looks at, which is below: it ends tasks that cannot start any more because others have ended.
local settle
local FIELDS_OF_AN_END = {'status', 'queue', 'attempt', 'rev', 'retention_ms', 'user_id', 'type', 'started_ms', 'delivery',
  'reply_to', 'log_seq', 'dependants', 'depends_on', 'next_call', 'revoked', 'noted', 'workflow_id', 'node', 'key', 'priority',
  'once', 'debounce'}

-- End a task of which a condition cannot be met any more: the one of `parent`, which has ended as `status`. Returns the task's new
-- status. `t`: on_unmet, FIELDS_OF_AN_END
local function end_unmet(t, parent, condition, status)
  local wanted = condition == 'failed' and 'failed' or 'completed'
  local message = 'the task ' .. parent .. ', on which this one depends, was to be ' .. wanted .. ' but is ' .. string.lower(status)
  local own = t.on_unmet == 'fail' and 'FAILED' or 'CANCELLED'
  settle(t, own, false, {'dependency_failed', message, '0'})
  return own
end

-- A dependant hears of the end of a parent.
local function hear(id, parent, status)
  local open = key.open_conditions(id)
  local condition = redis.call('HGET', open, parent)
  if not condition then return end
  local t = read(id, {'on_unmet', 'due_ms', unpack(FIELDS_OF_AN_END)})
  if t.status ~= 'WAITING' then
    redis.call('DEL', open)
  elseif t.on_unmet ~= 'run' and not is_met(condition, status) then
    end_unmet(t, parent, condition, status)
  else
    redis.call('HDEL', open, parent)
    if redis.call('EXISTS', open) == 0 then unsuspend(t) end
  end
end

-- Parents that have ended in this call, and whose dependants have not heard of it.
local ended_parents, releasing
on_call(function() ended_parents, releasing = emptied(ended_parents), false end)

-- Tell the dependants of a task that has ended. Those for which there is no time in this script hear of it from promote.lua.
local function release_dependants(id)
  ended_parents[#ended_parents + 1] = id
  -- It ended because its own parent did: the loop below comes to it.
  if releasing then return end
  releasing = true
  local at = 1
  while ended_parents[at] do
    local parent = ended_parents[at]
    local status = fields(parent, 'status')
    local dependants = key.dependants(parent)
    -- One that was retried has not ended: who has not heard of its end waits for the next one.
    while is_final(status) and work_left > 0 do
      local popped = redis.call('ZPOPMIN', dependants, math.min(50, math.ceil(work_left)))
      if #popped == 0 then break end
      for i = 1, #popped, 2 do
        work_left = work_left - 1
        hear(popped[i], parent, status)
      end
    end
    if is_final(status) and redis.call('EXISTS', dependants) == 1 then
      redis.call('ZADD', key.releasing, 'NX', now, parent)
    else
      redis.call('ZREM', key.releasing, parent)
    end
    at = at + 1
  end
  ended_parents, releasing = {}, false
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
  redis.call('PUBLISH', key.prefix .. channel, id .. '\n' .. status .. '\n' .. code .. '\n' .. text)
end

-- Note that Celery is to be told how a task ended (its result, chord, chain and errbacks), if Celery published it: no worker
-- has done it. A worker will take it from here, see take_untold.lua.
local function note_untold(id)
  if redis.call('HEXISTS', key.task(id), 'message') == 0 then return end
  -- What nobody took for so long is given up: no worker of its app runs any more.
  redis.call('ZREMRANGEBYSCORE', key.untold, '-inf', int(now_ms - tell_within_ms))
  change('ZADD', key.untold, now, id)
end

-- Tell terminals how a task ended, or an attempt (status PENDING), unless the process that asked for it shows that (`t.shown`,
-- which its script sets). It is an object in JSON, without what is not known.
local function show(t, status, failure)
  if rawget(t, 'shown') then return end
  local ran_ms = t.status == 'PROCESSING' and t.started_ms and int(now_ms - t.started_ms) or nil
  redis.call('PUBLISH', key.ends, cjson.encode({id = t.id, queue = t.queue, type = t.type, status = status, ran_ms = ran_ms,
    attempt = t.attempt, attempts = rawget(t, 'attempts_allowed'), code = failure and failure[1], message = failure and failure[2]}))
end

-- Begin to run another call of an ended task: its nonce is that of the record from now on, so that the publication that comes
-- again is known. `call`: as `take_over`, and its nonce. Returns the new status.
local function begin_again(t, call)
  redis.call('HDEL', key.task(t.id), 'replacement', 'moved', 'next_call')
  redis.call('HSET', key.task(t.id), 'nonce', call.nonce)
  return take_over(t, call)
end

-- Write an end into a record: these fields (name, value, ...) and what each end has, and emit its event: `...`, which begins with its
-- kind, 'status' and the final status. `t`: id, user_id, life
function telling.put_end(t, is_short, rev, fields_of_end, ...)
  local id, task, status = t.id, key.task(t.id), (select(3, ...))
  if is_short then
    local event = telling.announce(id, rev, false, ...)
    redis.call('HSET', task, 'status', status, 'life', life.after(t.life, status, event), unpack(fields_of_end))
    telling.spread(id, t.user_id, event, ...)
    telling.wake(id, event, ...)
  else
    if t.life then life.write_out(t) end
    redis.call('HSET', task, 'status', status, 'updated_at', now_text(), 'finished_at', now_text(), 'rev', rev, unpack(fields_of_end))
    emit_as(id, t.user_id, rev, ...)
  end
end

-- Give a task its final status. Its indexes are gone afterwards and its retention runs. Either `result` is JSON text and
-- `failure` nil, or `failure` is {code, message, retryable '0'|'1'}. `told`: Celery knows the end already, or need not know it.
-- A further call of the task's id, which again.lua noted, begins; a cancellation is meant for that too.
-- `t`: FIELDS_OF_AN_END, life
function settle(t, status, result, failure, told)
  local id, queue, attempt, user = t.id, t.queue, t.attempt, t.user_id
  note_node(id, t.workflow_id, t.node)
  local task, labels = key.task(id), SEP .. queue .. SEP .. (t.type or '')
  local rev, kept_ms = next_rev(t.rev), t.retention_ms or int(retention_ms)
  local superseded_by = status == 'CANCELLED' and fields(id, 'superseded_by')
  if superseded_by then failure = {'superseded', 'superseded by the task ' .. superseded_by, '0'} end
  count('f' .. labels .. SEP .. status, 1)
  if t.status == 'PROCESSING' then
    if t.started_ms then count_duration('r', labels, now_ms - t.started_ms) end
  else
    -- What has started is not among what may expire any more.
    change('ZREM', key.expiring, id)
  end
  unindex(t)
  end_turn(t)
  local is_short = life.may_end(t.life)
  if failure then
    telling.put_end(t, is_short, rev, {'error_code', failure[1], 'error_message', failure[2], 'error_retryable', failure[3]},
      'status', 'status', status, 'attempt', attempt, 'code', failure[1], 'message', failure[2], 'retryable', failure[3])
  else
    telling.put_end(t, is_short, rev, {'result', result}, 'status', 'status', status, 'attempt', attempt)
  end
  if t.once or t.debounce then holding.leave(t, status) end
  note_ended(user, id, kept_ms)
  local has_dependants = t.dependants and t.dependants ~= '0'
  if not has_dependants then leave_after(id, kept_ms, t.log_seq, t.noted, is_short) end
  if not told then note_untold(id) end
  show(t, status, failure)
  if t.delivery == 'remote' then change('ZREM', key.deadlines, id) end
  if t.reply_to then notice(t.reply_to, id, status, result, failure) end
  local waited = t.status == 'WAITING'
  if t.depends_on then let_parents_go(id, t.depends_on, waited) end
  if t.noted then let_children_go(id, waited) end
  if has_dependants then release_dependants(id) end
  if t.next_call and status == 'CANCELLED' then
    redis.call('HDEL', task, 'next_call')
  elseif t.next_call then
    t.status = status
    begin_again(t, cjson.decode(t.next_call))
  end
  if not counted then let_others_go() end
end

-- Return what a worker is answered whose attempt has ended otherwise: 'stale:STATUS' if the attempt is not its any more,
-- CANCELLED if somebody asked for that. Returns nil if the attempt still runs, under this fence.
-- `t`: fence, cancel_requested, FIELDS_OF_AN_END
local function ended_otherwise(t, fence)
  if t.status == 'CANCELLED' and t.fence == fence then return 'CANCELLED' end
  if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
  if t.cancel_requested then
    settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'})
    return 'CANCELLED'
  end
end
