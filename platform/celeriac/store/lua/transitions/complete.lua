-- Complete running attempts: PROCESSING -> COMPLETED with a result.
--
-- ARGV[4..] 4 values per task: 1 id (text)   2 fence of its claim (text)   3 result (JSON)
--   4 path of the result file (text), '' for none
--
-- Returns one text per task: 'ok' (also if this very claim completed it before) | 'stale:STATUS' (it is not this claim's any
-- more).

-- Named variables, not a table: of all scripts this one and claim.lua run most often.
return each(4, 4, function(id, fence, result, file)
  local status, holder, queue, attempt, error_code, rev, retention_ms, user_id, task_type, started_ms, delivery, reply_to, log_seq,
    dependants, depends_on, next_call, workflow_id, node, noted, limited_by, once,
    debounce =
    fields(id, 'status', 'fence', 'queue', 'attempt', 'error_code', 'rev', 'retention_ms', 'user_id', 'type', 'started_ms',
      'delivery', 'reply_to', 'log_seq', 'dependants', 'depends_on', 'next_call', 'workflow_id', 'node', 'noted', 'key', 'once',
      'debounce')
  if holder ~= fence or (status ~= 'PROCESSING' and status ~= 'COMPLETED') then return 'stale:' .. (status or '') end
  if status == 'COMPLETED' then return 'ok' end
  if error_code then redis.call('HDEL', key.task(id), 'error_code', 'error_message', 'error_retryable') end
  if file ~= '' then redis.call('HSET', key.task(id), 'result_file_path', file) end
  settle({
    id = id, status = status, queue = queue, attempt = attempt, rev = rev, retention_ms = retention_ms, user_id = user_id,
    type = task_type, started_ms = started_ms, delivery = delivery, reply_to = reply_to, log_seq = log_seq,
    dependants = dependants, depends_on = depends_on, next_call = next_call, workflow_id = workflow_id, node = node,
    noted = noted, key = limited_by, once = once, debounce = debounce, shown = true,
  }, 'COMPLETED', result, nil, true)
  return 'ok'
end)
