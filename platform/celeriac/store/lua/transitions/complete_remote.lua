-- Complete running attempts of remote workers: PROCESSING -> COMPLETED with a result. The callers wait in the process that asks for
-- it, which tells them itself: nothing is published on their channel.
--
-- ARGV[4..] 3 values per task: 1 id (text)   2 fence of its claim (text)   3 result (JSON)
--
-- Returns one text per task, as complete.lua: 'ok' (also if this very claim completed it before) | 'stale:STATUS'.

return each(4, 3, function(id, fence, result)
  local t = read(id, {'fence', 'error_code', unpack(FIELDS_OF_AN_END)})
  if t.fence ~= fence or (t.status ~= 'PROCESSING' and t.status ~= 'COMPLETED') then return 'stale:' .. (t.status or '') end
  if t.status == 'COMPLETED' then return 'ok' end
  if t.error_code then redis.call('HDEL', key.task(id), 'error_code', 'error_message', 'error_retryable') end
  t.reply_to, t.shown = false, true
  settle(t, 'COMPLETED', result, nil, true)
  return 'ok'
end)
