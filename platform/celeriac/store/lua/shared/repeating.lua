-- Running an ended task again, with its attempts granted anew.

-- What `run_again` looks at.
local FIELDS_OF_A_RETRY = {'status', 'queue', 'type', 'key', 'attempt', 'max_retries', 'moved', 'rev', 'message', 'notified', 'delivery', 'user_id',
  'depends_on', 'noted', 'error_code', 'on_unmet', 'once'}

-- Run a task again that has failed or was cancelled: FAILED | CANCELLED -> PENDING, or WAITING while tasks that it depends on have
-- not ended. The ends that they have come to count as what it was to wait for. `nonce`: of this call. `t`: id, attempt, max_retries,
-- queue, user_id, depends_on, noted, once. Returns the new status.
local function run_again(t, nonce, maker)
  local id, task = t.id, key.task(t.id)
  life.write_out(t)
  keep(id)
  redis.call('HDEL', task, 'finished_at', 'cancel_requested', 'revoked', 'error_code', 'error_message', 'error_retryable',
    'expires_ms', 'expires_at', 'run_at', 'owner', 'fence', 'percentage', 'stage', 'message_text', 'timestamp_ms', 'deadline_ms',
    'reply_to', 'replaced_by', 'due_ms', 'resumes', 'arrival', 'result', 'result_file_path', 'superseded_by',
    'unreached')
  redis.call('HSET', task, 'moved', nonce, 'attempts_allowed', int(tonumber(t.attempt or 0) + 1 + tonumber(t.max_retries or 0)))
  -- It has not ended any more.
  redis.call('ZREM', key.untold, id)
  note_active(t.user_id, id)
  note_group(t.queue, maker)
  if t.once then holding.again(t) end
  if t.noted then
    for _, child in ipairs(children_of(id)) do
      local found = read(child, {'status'})
      if found.status then hold(found) end
    end
  end
  if t.depends_on then
    for order, pair in ipairs(cjson.decode(t.depends_on)) do
      local parent = read(pair[1], {'status', 'dependants'})
      if parent.status then hold_parent(id, parent, pair[2], order) end
    end
    if redis.call('EXISTS', key.open_conditions(id)) == 1 then
      suspend(id, t.queue)
      redis.call('HSET', task, 'status', 'WAITING', 'updated_at', now_text())
      emit(id, t.user_id, 'status', 'status', 'WAITING', 'attempt', int(tonumber(t.attempt or 0)))
      return 'WAITING'
    end
  end
  enqueue(id, false)
  -- One that needs no worker waits by now.
  return (fields(id, 'status'))
end
