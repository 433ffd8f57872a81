-- Complete running attempts: PROCESSING -> COMPLETED with a result.
--
-- ARGV[4..] 5 values per task: 1 id (text)   2 fence of its claim (text)   3 result (JSON)
--   4 path of the result file (text), '' for none
--   5 the state that Celery's result backend keeps (bytes), '' for none: its key, how long it is kept (s, '' for ever) and its value,
--     each but the last one with a line end
--
-- Returns one text per task: 'ok' (also if this very claim completed it before) | 'stale:STATUS' (it is not this claim's any
-- more).

-- Keep a state of Celery's. The message of the end, which follows, has it too.
local function keep_state(id, state)
  local name, seconds, value = string.match(state, '^([^\n]*)\n(%d*)\n(.*)$')
  if seconds == '' then
    redis.call('SET', key.prefix .. name, value)
  else
    redis.call('SET', key.prefix .. name, value, 'EX', seconds)
  end
  telling.with_state(id, value)
end

-- What a record has that tells nothing but a usual life, while it runs: as in claim.lua, owner and fence.
local PLAIN = 9

-- Named variables, not a table: of all scripts this one and claim.lua run most often.
return each(4, 5, function(id, fence, result, file, state)
  if file == '' and redis.call('HLEN', key.task(id)) == PLAIN then
    local status, holder, queue, task_type, short_life = fields(id, 'status', 'fence', 'queue', 'type', 'life')
    if status == 'PROCESSING' and holder == fence and short_life then
      local _, started, events = life.known(short_life)
      if state ~= '' then keep_state(id, state) end
      settle({
        id = id, status = status, queue = queue, type = task_type, attempt = '1', rev = events, started_ms = started, shown = true,
        life = short_life,
      }, 'COMPLETED', result, nil, true)
      return 'ok'
    end
  end
  local status, holder, queue, attempt, error_code, rev, retention_ms, user_id, task_type, started_ms, delivery, reply_to, log_seq,
    dependants, depends_on, next_call, workflow_id, node, noted, limited_by, once,
    debounce, short_life =
    fields(id, 'status', 'fence', 'queue', 'attempt', 'error_code', 'rev', 'retention_ms', 'user_id', 'type', 'started_ms',
      'delivery', 'reply_to', 'log_seq', 'dependants', 'depends_on', 'next_call', 'workflow_id', 'node', 'noted', 'key', 'once',
      'debounce', 'life')
  if holder ~= fence or (status ~= 'PROCESSING' and status ~= 'COMPLETED') then return 'stale:' .. (status or '') end
  if status == 'COMPLETED' then return 'ok' end
  if short_life then
    local _, started, events = life.known(short_life)
    attempt, started_ms, rev = attempt or '1', started_ms or started, rev or events
  end
  if error_code then redis.call('HDEL', key.task(id), 'error_code', 'error_message', 'error_retryable') end
  if state ~= '' then keep_state(id, state) end
  if file ~= '' then redis.call('HSET', key.task(id), 'result_file_path', file) end
  settle({
    id = id, status = status, queue = queue, attempt = attempt, rev = rev, retention_ms = retention_ms, user_id = user_id,
    type = task_type, started_ms = started_ms, delivery = delivery, reply_to = reply_to, log_seq = log_seq,
    dependants = dependants, depends_on = depends_on, next_call = next_call, workflow_id = workflow_id, node = node,
    noted = noted, key = limited_by, once = once, debounce = debounce, shown = true, life = short_life,
  }, 'COMPLETED', result, nil, true)
  return 'ok'
end)
