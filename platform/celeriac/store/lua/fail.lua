-- End running attempts that failed: PROCESSING -> RETRYING while attempts are left, else FAILED;
-- CANCELLED if somebody asked for that meanwhile.
--
-- ARGV[4..] 6 values per task: 1 id   2 fence   3 code   4 message   5 retryable '0'|'1'
--   6 delay until the next attempt (ms)
--
-- Returns one text per task: the new status | 'stale:STATUS'. A repeated call gets the same answer.

return each(4, 6, function(base)
  local id, fence = ARGV[base], ARGV[base + 1]
  local failure = {ARGV[base + 2], ARGV[base + 3], ARGV[base + 4]}
  local task = key.task(id)
  local f = redis.call('HMGET', task, 'status', 'fence', 'queue', 'attempt', 'attempts_allowed', 'cancel_requested',
    'rev', 'retention_ms', 'user_id', 'type', 'started_ms', 'delivery', 'reply_to', 'log_seq')
  local status, group, attempt = f[1], f[3], f[4]
  user_of[id] = f[9] or ''
  if f[2] ~= fence then
    return 'stale:' .. (status or '')
  elseif status ~= 'PROCESSING' then
    -- This very claim failed it before; a retry may have become due meanwhile.
    if status == 'PENDING' then status = 'RETRYING' end
    return (status == 'COMPLETED' or not status) and 'stale:' .. (status or '') or status
  elseif f[6] then
    settle(id, status, group, attempt, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'}, {f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14]})
    return 'CANCELLED'
  elseif failure[3] == '1' and tonumber(attempt) < tonumber(f[5]) then
    unindex(id, status, group)
    redis.call('HSET', task, 'error_code', failure[1], 'error_message', failure[2], 'error_retryable', '1')
    count_lost_attempt('y', group, f[10], f[11])
    delay(id, 'RETRYING', now_ms + tonumber(ARGV[base + 5]))
    emit(id, 'status', 'status', 'RETRYING', 'attempt', attempt, 'code', failure[1], 'message', failure[2], 'retryable', '1')
    return 'RETRYING'
  end
  settle(id, status, group, attempt, 'FAILED', false, failure, {f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14]})
  return 'FAILED'
end)
