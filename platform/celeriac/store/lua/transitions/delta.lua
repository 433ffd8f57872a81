-- Pass on a part of a running task's result to the process that waits for it.
--
-- ARGV[4] most bytes of one attempt's parts, 32 for each part included (count)
-- ARGV[5..] 4 values per part: 1 id (text)   2 fence of its claim (text)
--   3 number (count, from 1 within the attempt; a repeat is ignored)   4 content (text)
--
-- Returns one text per part: 'ok' | 'full' (not passed on: there were too many bytes) | 'stale:STATUS' (it is not this claim's
-- any more).

local most_bytes = tonumber(ARGV[4])

return each(5, 4, function(id, fence, number, content)
  local t = read(id, {'status', 'fence', 'delta_seq', 'delta_bytes', 'reply_to', 'attempt'})
  if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
  local seq = tonumber(t.delta_seq or 0)
  if tonumber(number) <= seq then return 'ok' end
  -- Each part costs its reader something, an empty one too.
  local bytes = #content + 32 + (seq > 0 and tonumber(t.delta_bytes or 0) or 0)
  if bytes > most_bytes then return 'full' end
  redis.call('HSET', key.task(id), 'delta_seq', number, 'delta_bytes', int(bytes))
  if t.reply_to then
    redis.call('PUBLISH', key.prefix .. t.reply_to, id .. '\ndelta\n' .. t.attempt .. ':' .. number .. '\n' .. content)
  end
  return 'ok'
end)
