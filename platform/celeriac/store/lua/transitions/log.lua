-- Add lines to the logs of tasks; no status depends on them.
--
-- ARGV[4..] 7 values per line: 1 id (text)   2 fence of its claim (text)   3 seq (count, from 1 within the attempt; a repeat is
--   ignored)   4 level (text)   5 message (text)   6 data (JSON object), '' for none   7 when it was written (ms since the epoch)
--
-- Returns one text per line: 'ok' (also if the attempt has ended meanwhile) | 'stale:STATUS' (another attempt has begun,
-- or there is no such task).

-- Tasks whose log has something new.
local told = {}

return each(4, 7, function(id, fence, seq, level, message, data, timestamp_ms)
  local t = read(id, {'status', 'fence', 'log_seq', 'attempt'})
  if t.fence ~= fence then return 'stale:' .. (t.status or '') end
  local last, last_fence = string.match(t.log_seq or '', '^(%d+) (.*)$')
  if last_fence ~= fence or tonumber(seq) > tonumber(last) then
    local log = key.log(id)
    redis.call('HSET', key.task(id), 'log_seq', seq .. ' ' .. fence)
    redis.call('XADD', log, 'MAXLEN', max_log, '*', 'level', level, 'message', message, 'data', data,
      'timestamp_ms', timestamp_ms, 'attempt', t.attempt)
    -- What comes after the end lives as long as the record.
    local kept_ms = redis.call('PTTL', key.task(id))
    if kept_ms > 0 then redis.call('PEXPIRE', log, kept_ms) end
    told[id] = true
  end
  return 'ok'
end, function()
  for id in pairs(told) do redis.call('PUBLISH', key.live_log(id), '') end
end)
