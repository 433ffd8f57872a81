-- Calls: the record of a task gets another call to run, under the same id.

-- Take another call over into a record: any status -> PENDING | SCHEDULED, with the attempts of that call. The caller has taken
-- the task out of its indexes, and checked that it may do so. A message of an earlier call is refused from now on, see claim.lua.
-- `call`: {group, max_retries (count), due (ms since the epoch) or nil, expires (ms since the epoch) or nil, further = fields of
-- the record that it has (name -> text), its type among them, message = the Celery message that the record keeps (JSON), '' for
-- none}. `t`: id, status, attempt, user_id, depends_on, noted. `...`: further fields of the event, name and value. Returns the new status.
local function take_over(t, call, ...)
  local id, further, group, attempt = t.id, call.further, call.group, tonumber(t.attempt or 0)
  local task = key.task(id)
  life.write_out(t)
  if is_final(t.status) then
    keep(id)
    note_active(t.user_id, id)
    -- It has not ended any more.
    redis.call('ZREM', key.untold, id)
    -- With its end it has let go of the tasks that it depended on, and the other call waits for none.
    redis.call('HDEL', task, 'depends_on', 'on_unmet')
  elseif t.status == 'WAITING' then
    -- So does the one that has waited for them until now.
    if t.depends_on then let_parents_go(id, t.depends_on, true) end
    redis.call('HDEL', task, 'depends_on', 'on_unmet')
  end
  if t.noted then
    if not is_final(t.status) then let_children_go(id, t.status == 'WAITING') end
    forget_kept(id)
  end
  redis.call('HDEL', task, 'owner', 'fence', 'finished_at', 'run_at', 'expires_ms', 'expires_at', 'replaced_by',
    'error_code', 'error_message', 'error_retryable', 'percentage', 'stage', 'message_text', 'timestamp_ms',
    'priority', 'delivery', 'timeout_ms', 'message', 'secret_fields', 'retention_ms', 'result', 'result_file_path',
    'cancel_requested', 'revoked', 'awaits', 'resumes', 'arrival', 'key', 'cost', 'unreached')
  for name, value in pairs(further) do redis.call('HSET', task, name, value) end
  if call.message ~= '' then redis.call('HSET', task, 'message', call.message) end
  redis.call('HSET', task, 'queue', group, 'max_retries', int(call.max_retries),
    'attempts_allowed', int(attempt + 1 + call.max_retries), 'attempts_before', int(attempt))
  redis.call('HINCRBY', task, 'edition', 1)
  if call.expires then
    redis.call('HSET', task, 'expires_ms', int(call.expires), 'expires_at', rfc3339(call.expires))
    redis.call('ZADD', key.expiring, int(call.expires), id)
  end
  if call.due and call.due > now_ms then
    delay(id, group, 'SCHEDULED', call.due)
    note_group(group)
    emit(id, t.user_id, 'status', 'status', 'SCHEDULED', 'attempt', int(attempt), 'type', further.type, 'queue', group, ...)
    return 'SCHEDULED'
  end
  enqueue(id, false, 'type', further.type, 'queue', group, ...)
  return 'PENDING'
end
