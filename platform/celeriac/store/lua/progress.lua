-- Record progress reports of running attempts.
--
-- ARGV[4..] 7 values per report: 1 id   2 fence   3 seq (1.. within the attempt; a repeat is ignored)
--   4 percentage   5 stage   6 message   7 timestamp_ms
--
-- Returns one text per report: 'ok' | 'cancel' (recorded; somebody asked to cancel) | 'stale:STATUS'.

local replies = {}

for base = 4, #ARGV, 7 do
  local id, fence, seq = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2])
  local percentage, stage, message, timestamp = ARGV[base + 3], ARGV[base + 4], ARGV[base + 5], ARGV[base + 6]
  local task = key.task(id)
  local f = redis.call('HMGET', task, 'status', 'fence', 'progress_seq', 'cancel_requested', 'attempt', 'rev', 'user_id')
  if f[1] ~= 'PROCESSING' or f[2] ~= fence then
    replies[#replies + 1] = 'stale:' .. (f[1] or '')
  else
    if seq > tonumber(f[3] or 0) then
      local rev = next_rev(f[6])
      user_of[id] = f[7] or ''
      redis.call('HSET', task, 'rev', rev, 'progress_seq', int(seq), 'percentage', percentage, 'stage', stage, 'message_text', message,
        'timestamp_ms', timestamp, 'updated_at', now_text)
      emit_as(id, rev, 'progress', 'percentage', percentage, 'stage', stage, 'message', message, 'timestamp_ms', timestamp,
        'attempt', f[5])
    end
    replies[#replies + 1] = f[4] and 'cancel' or 'ok'
  end
end

return replies
