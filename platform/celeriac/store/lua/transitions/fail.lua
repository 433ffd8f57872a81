-- End running attempts that failed: PROCESSING -> RETRYING while attempts are left, else FAILED;
-- CANCELLED if somebody asked for that meanwhile.
--
-- ARGV[4..] 7 values per task: 1 id (text)   2 fence of its claim (text)   3 code (text)   4 message (text)
--   5 retryable '0'|'1'   6 delay until the next attempt (ms)   7 '1' = Celery is still to be told if this is the end, else '0'
--
-- Returns one text per task: the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same
-- answer.

-- FIELDS_OF_AN_END and what is decided by here.
local FIELDS = {'fence', 'attempts_allowed', 'cancel_requested', unpack(FIELDS_OF_AN_END)}

return each(4, 7, function(id, fence, code, message, retryable, delay_ms, untold)
  local t = read(id, FIELDS)
  local status, attempt = t.status, t.attempt
  t.shown = true
  if t.fence ~= fence then
    return 'stale:' .. (status or '')
  elseif status ~= 'PROCESSING' then
    -- This very claim failed it before; a retry may have become due meanwhile.
    if status == 'PENDING' then status = 'RETRYING' end
    return (status == 'COMPLETED' or not status) and 'stale:' .. (status or '') or status
  elseif t.cancel_requested or (t.revoked and retryable == '1' and tonumber(attempt) < tonumber(t.attempts_allowed)) then
    settle(t, 'CANCELLED', false, {'cancelled', 'cancelled while it ran', '0'}, untold == '0')
    return 'CANCELLED'
  elseif retryable == '1' and tonumber(attempt) < tonumber(t.attempts_allowed) then
    life.write_out(t)
    unindex(t)
    redis.call('HSET', key.task(id), 'error_code', code, 'error_message', message, 'error_retryable', '1')
    count_lost_attempt('y', t.queue, t.type, t.started_ms)
    note_retrying(t)
    delay(id, t.queue, 'RETRYING', now_ms + tonumber(delay_ms))
    emit(id, t.user_id, 'status', 'status', 'RETRYING', 'attempt', attempt, 'code', code, 'message', message, 'retryable', '1')
    return 'RETRYING'
  end
  settle(t, 'FAILED', false, {code, message, retryable}, untold == '0')
  return 'FAILED'
end)
