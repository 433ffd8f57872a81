-- Pass on a part of a running task's result to the process that waits for it.
--
-- ARGV[4] most bytes of one attempt's parts, 32 for each part included
-- ARGV[5..] 4 values per part: 1 id   2 fence   3 number (1.. within the attempt; a repeat is ignored)   4 content
--
-- Returns one text per part: 'ok' | 'full' (not passed on: there were too many bytes) | 'stale:STATUS'.

return each(5, 4, function(base)
  local id, fence, number, content = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2]), ARGV[base + 3]
  local f = redis.call('HMGET', key.task(id), 'status', 'fence', 'delta_seq', 'delta_bytes', 'reply_to', 'attempt')
  if f[1] ~= 'PROCESSING' or f[2] ~= fence then return 'stale:' .. (f[1] or '') end
  local seq = tonumber(f[3] or 0)
  if number <= seq then return 'ok' end
  -- Each part costs its reader something, an empty one too.
  local bytes = #content + 32 + (seq > 0 and tonumber(f[4] or 0) or 0)
  if bytes > tonumber(ARGV[4]) then return 'full' end
  redis.call('HSET', key.task(id), 'delta_seq', int(number), 'delta_bytes', int(bytes))
  if f[5] then redis.call('PUBLISH', f[5], id .. '\ndelta\n' .. f[6] .. ':' .. int(number) .. '\n' .. content) end
  return 'ok'
end)
