-- Give running tasks back that somebody else's service refused for now, and close their key in their group until then, or the whole
-- group where a task has no key: PROCESSING -> PENDING; the attempt does not count.
--
-- ARGV[4..] 3 values per task: 1 id (text)   2 fence of its claim (text)   3 how long it is closed (ms)
--
-- Returns one text per task: the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same
-- answer.

local replies = {}
for base = 4, #ARGV, 3 do
  local id, fence, closed_ms = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2])
  local t = read(id, FIELDS_OF_A_RETURN)
  local reply = t.moved == fence and 'PENDING' or ended_otherwise(t, fence)
  if not reply then
    redis.call('ZADD', key.closed, 'GT', int(now_ms + closed_ms), t.queue .. '\31' .. (t.key or ''))
    forget_held()
    reply = give_back(t, fence)
  end
  replies[#replies + 1] = reply
end
return replies
