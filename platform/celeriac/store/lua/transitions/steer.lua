-- Go on with workflows whose nodes are still to be stored, cancelled or run again.
--
-- ARGV[4] workflow (text), '' for those that have waited longest
--
-- Returns {'1' if more is to be done, else '', an error of the store for people, ...}.

local workflow = ARGV[4]

-- After an error a workflow is tried again so much later (ms).
local PAUSE_MS = 10000

local answer = {''}
for _, one in ipairs(workflow ~= '' and {workflow} or redis.call('ZRANGEBYSCORE', key.steering, '-inf', now, 'LIMIT', 0, 10)) do
  local ok, left = pcall(steer, one)
  if not ok then
    redis.call('ZADD', key.steering, int(now_ms + PAUSE_MS), one)
    answer[#answer + 1] = one .. ': ' .. (type(left) == 'table' and left.err or tostring(left))
  elseif left then
    answer[1] = '1'
  end
  if work_left <= 0 then break end
end
if redis.call('ZCOUNT', key.steering, '-inf', now) > 0 then answer[1] = '1' end
return answer
