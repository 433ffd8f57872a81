-- Complete running attempts: PROCESSING -> COMPLETED with a result.
--
-- ARGV[4..] 4 values per task: 1 id   2 fence   3 result (JSON)   4 path of the result file | ''
--
-- Returns one text per task: 'ok' (also when this very claim completed it before) | 'stale:STATUS'.

return each(4, 4, function(base)
  local id, fence, file = ARGV[base], ARGV[base + 1], ARGV[base + 3]
  local f = redis.call('HMGET', key.task(id), 'status', 'fence', 'queue', 'attempt', 'error_code', 'rev', 'retention_ms', 'user_id',
    'type', 'started_ms', 'delivery', 'reply_to', 'log_seq')
  if f[2] == fence and f[1] == 'PROCESSING' then
    if f[5] then redis.call('HDEL', key.task(id), 'error_code', 'error_message', 'error_retryable') end
    if file ~= '' then redis.call('HSET', key.task(id), 'result_file_path', file) end
    settle(id, f[1], f[3], f[4], 'COMPLETED', ARGV[base + 2], nil, {f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13]})
    return 'ok'
  elseif f[2] == fence and f[1] == 'COMPLETED' then
    return 'ok'
  end
  return 'stale:' .. (f[1] or '')
end)
