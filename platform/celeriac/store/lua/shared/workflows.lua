-- Workflows: a task may be a node of one. The script that changes the status of a node counts that in the workflow, too.
--
-- key.workflow(id) is the record: name, status (RUNNING, COMPLETED, FAILED, CANCELLED), user_id, metadata (JSON), created_ms,
-- finished_ms, rev, `n:STATUS` (how many nodes have this status), unmet (how many of the cancelled ones were cancelled because
-- of a dependency), cancelled (whether it was cancelled as a whole). key.workflow_nodes(id) has the nodes by name, each a JSON
-- object: task_id, type, after, place. key.workflow_states(id) has the state of each, which stays there when the task's record
-- leaves the store: status, started (ms), finished (ms), retryable '0'|'1', code and message, separated by line breaks.
-- key.workflow_events(id) is a stream of the changes. key.workflow_groups(id) has the nodes that belong to one of Celery's groups, as
-- GROUP, line break, NODE. These five leave the store with the retention after the workflow's end.

-- The workflows of tasks, as far as this script knows them: id -> {workflow, node}, false for none.
local node_of
on_call(function() node_of = emptied(node_of) end)
local function note_node(id, workflow, node) node_of[id] = workflow and {workflow, node or id} or false end

-- Return the first 500 bytes of an error's message, which the state of a node keeps.
local function cut_message(text)
  if #text <= 500 then return text end
  -- Not in the middle of a character.
  return (string.gsub(string.sub(text, 1, 500), '[\192-\255][\128-\191]*$', '')) .. '…'
end

-- Append to the stream of a workflow, and wake all who follow it.
local function tell_workflow(workflow, kind, ...)
  redis.call('XADD', key.workflow_events(workflow), 'MAXLEN', '~', max_workflow_events, '*', 'kind', kind, ...)
  redis.call('PUBLISH', key.live_workflow(workflow), '')
end

-- A workflow has changed as a whole: recorders hear of it.
local function emit_workflow(workflow, status)
  local rev = redis.call('HINCRBY', key.workflow(workflow), 'rev', 1)
  redis.call('XADD', key.events, 'MAXLEN', '~', max_global_events, '*', 'kind', 'workflow', 'workflow_id', workflow, 'rev', rev,
    'status', status)
end

local function each_key_of_workflow(workflow, command, ...)
  for _, k in ipairs({key.workflow(workflow), key.workflow_nodes(workflow), key.workflow_states(workflow),
    key.workflow_events(workflow), key.workflow_groups(workflow)}) do
    redis.call(command, k, ...)
  end
end

-- How many nodes of a workflow have ended, how many of those failed, and how many were cancelled on their own.
local function ends_in_workflow(workflow)
  local n = redis.call('HMGET', key.workflow(workflow), 'n:COMPLETED', 'n:FAILED', 'n:CANCELLED', 'unmet')
  local completed, failed, cancelled = tonumber(n[1] or 0), tonumber(n[2] or 0), tonumber(n[3] or 0)
  return completed + failed + cancelled, failed, cancelled - tonumber(n[4] or 0)
end

-- End a workflow all of whose nodes have ended; do nothing for any other.
local function end_workflow(workflow)
  local ended, failed, cancelled = ends_in_workflow(workflow)
  if ended < redis.call('HLEN', key.workflow_nodes(workflow)) then return end
  local record = key.workflow(workflow)
  local status = redis.call('HEXISTS', record, 'cancelled') == 1 and 'CANCELLED' or failed + cancelled > 0 and 'FAILED' or 'COMPLETED'
  redis.call('HSET', record, 'status', status, 'finished_ms', now)
  tell_workflow(workflow, 'done', 'status', status)
  emit_workflow(workflow, status)
  each_key_of_workflow(workflow, 'PEXPIRE', int(retention_ms))
end

-- A workflow that has ended runs again.
local function reopen_workflow(workflow)
  local record = key.workflow(workflow)
  redis.call('HDEL', record, 'finished_ms', 'cancelled')
  redis.call('HSET', record, 'status', 'RUNNING')
  each_key_of_workflow(workflow, 'PERSIST')
  emit_workflow(workflow, 'RUNNING')
end

-- A node has a status from now on. `failure`: {code, message, retryable}, or nil. `started`: when its last attempt started (ms,
-- text), '' if none has. Only of a workflow that the store has.
local function note_state(workflow, node, id, status, started, attempt, failure)
  local record, states = key.workflow(workflow), key.workflow_states(workflow)
  local before, code_before = redis.call('HGET', states, node), nil
  local status_before
  if before then
    local started_before
    status_before, started_before, code_before = string.match(before, '^(%u+)\n(%d*)\n%d*\n%d?\n([^\n]*)')
    started = started or started_before
  end
  started = started or ''
  local finished = is_final(status) and now or ''
  local code, message, retryable = '', '', ''
  if failure then code, message, retryable = string.gsub(failure[1], '\n', ' '), cut_message(failure[2]), failure[3] end
  local state = table.concat({status, started, finished, retryable, code, message}, '\n')
  -- It may wait for something else than before.
  if state == before then return end
  redis.call('HSET', states, node, state)
  if status_before ~= status then
    if status_before then redis.call('HINCRBY', record, 'n:' .. status_before, -1) end
    redis.call('HINCRBY', record, 'n:' .. status, 1)
    if status_before == 'CANCELLED' and code_before == 'dependency_failed' then redis.call('HINCRBY', record, 'unmet', -1) end
    if status == 'CANCELLED' and code == 'dependency_failed' then redis.call('HINCRBY', record, 'unmet', 1) end
  end
  tell_workflow(workflow, 'node', 'node', node, 'task_id', id, 'status', status, 'attempt', attempt, 'started', started,
    'finished', finished, 'retryable', retryable, 'code', code, 'message', message)
end

-- A task has a status from now on: note it in its workflow, if it has one that the store has. `...`: the fields of the event.
local function note_status(id, ...)
  local known = node_of[id]
  if known == nil then
    local workflow_id, node = fields(id, 'workflow_id', 'node')
    note_node(id, workflow_id, node)
    known = node_of[id]
  end
  if not known then return end
  local workflow, node = known[1], known[2]
  local running = redis.call('HGET', key.workflow(workflow), 'status')
  if not running then return end
  local event = {}
  for i = 1, select('#', ...), 2 do event[select(i, ...)] = select(i + 1, ...) end
  local status = event.status
  note_state(workflow, node, id, status, status == 'PROCESSING' and now or nil, event.attempt or '0',
    event.code and {event.code, event.message or '', event.retryable or '0'})
  if is_final(status) then
    end_workflow(workflow)
  elseif running ~= 'RUNNING' then
    reopen_workflow(workflow)
  end
end
