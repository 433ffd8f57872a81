-- Add lines to the logs of tasks; no status depends on them.
--
-- ARGV[4..] 7 values per line: 1 id   2 fence   3 seq (1.. within the attempt; a repeat is ignored)
--   4 level   5 message   6 data (JSON object) | ''   7 timestamp_ms
--
-- Returns one text per line: 'ok' (also where the attempt has ended meanwhile) | 'stale:STATUS' (another attempt has begun,
-- or there is no such task).

local replies, told = {}, {}

for base = 4, #ARGV, 7 do
  local id, fence, seq = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2])
  local f = redis.call('HMGET', key.task(id), 'status', 'fence', 'log_seq', 'attempt')
  if f[2] ~= fence then
    replies[#replies + 1] = 'stale:' .. (f[1] or '')
  else
    local last, holder = string.match(f[3] or '', '^(%d+) (.*)$')
    if holder ~= fence or seq > tonumber(last) then
      local log = key.log(id)
      redis.call('HSET', key.task(id), 'log_seq', int(seq) .. ' ' .. fence)
      redis.call('XADD', log, 'MAXLEN', max_log, '*', 'level', ARGV[base + 3], 'message', ARGV[base + 4], 'data', ARGV[base + 5],
        'timestamp_ms', ARGV[base + 6], 'attempt', f[4])
      -- What comes after the end lives as long as the record.
      local kept_ms = redis.call('PTTL', key.task(id))
      if kept_ms > 0 then redis.call('PEXPIRE', log, kept_ms) end
      told[id] = true
    end
    replies[#replies + 1] = 'ok'
  end
end
for id in pairs(told) do redis.call('PUBLISH', key.live_log(id), '') end

return replies
