-- Take running tasks from a remote worker that vanished: PROCESSING -> PENDING while attempts are left, else FAILED.
--
-- ARGV[4..] 2 values per task: 1 id   2 fence
--
-- Returns one text per task: the new status | 'stale:STATUS'.

return each(4, 2, function(base)
  local id, fence = ARGV[base], ARGV[base + 1]
  local f = redis.call('HMGET', key.task(id), 'status', 'queue', 'attempt', 'attempts_allowed', 'cancel_requested', 'fence',
    'type', 'started_ms')
  if f[1] ~= 'PROCESSING' or f[6] ~= fence then return 'stale:' .. (f[1] or '') end
  return take_back(id, f, 'worker_disconnected', 'Worker disconnected')
end)
