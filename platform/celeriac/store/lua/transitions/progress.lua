-- Record progress reports of running attempts.
--
-- ARGV[4..] 7 values per report: 1 id (text)   2 fence of its claim (text)   3 seq (count, from 1 within the attempt; a repeat is
--   ignored)   4 percentage (0..100)   5 stage (text)   6 message (text)   7 when it was made (ms since the epoch)
--
-- Returns one text per report: 'ok' | 'cancel' (recorded; somebody asked to cancel) | 'stale:STATUS' (it is not this claim's any
-- more).

return each(4, 7, function(id, fence, seq, percentage, stage, message, timestamp_ms)
  local t = read(id, {'status', 'fence', 'progress_seq', 'cancel_requested', 'attempt', 'rev', 'user_id'})
  if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
  if tonumber(seq) > tonumber(t.progress_seq or 0) then
    if t.life then life.write_out(t) end
    local rev = next_rev(t.rev)
    redis.call('HSET', key.task(id), 'rev', rev, 'progress_seq', seq, 'percentage', percentage, 'stage', stage,
      'message_text', message, 'timestamp_ms', timestamp_ms, 'updated_at', now_text())
    emit_as(id, t.user_id, rev, 'progress', 'percentage', percentage, 'stage', stage, 'message', message,
      'timestamp_ms', timestamp_ms, 'attempt', t.attempt)
  end
  return t.cancel_requested and 'cancel' or 'ok'
end)
