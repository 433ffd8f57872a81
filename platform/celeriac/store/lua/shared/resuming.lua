-- Resuming: how a waiting task goes on when a signal or a time has come (for the ends of other tasks see ends.lua).

-- Something that a waiting task waits for has come: it goes on if nothing is open any more. One that needs no worker has ended with
-- it. `t`: due_ms, awaits, FIELDS_OF_AN_END
local function go_on(t)
  if redis.call('EXISTS', key.open_conditions(t.id)) == 1 then return note_time(t.id) end
  if not t.awaits then return unsuspend(t) end
  local item = cjson.decode(t.awaits)
  local signal = item.signal and redis.call('HGET', key.signals(t.id), item.signal)
  if signal then
    settle(t, 'COMPLETED', string.match(signal, '^%d+ %S+ %d+ (.*)$'))
  elseif item.sleep or item.default then
    settle(t, 'COMPLETED', item.default or 'null')
  else
    settle(t, 'FAILED', false, {'wait_timeout', 'the signal ' .. item.signal .. ' has not come in time', '0'})
  end
end

-- Something that a waiting task waits for has come to its time, or a signal is there. `t`: as `go_on`
local function pass_time(t)
  for name, text in pairs(open_of(t.id)) do
    work_left = work_left - 0.1
    local question = question_of(text)
    local over = tonumber(question and question.expires_ms or text)
    local came = question and redis.call('HEXISTS', key.signals(t.id), string.sub(name, 8)) == 1
    if came or (over and over <= now_ms) then
      close_item(t, name, text)
      if question and question.wait and not came then
        redis.call('HSET', key.steps(t.id), 'wait:' .. question.wait, next_noted(t.id) .. ' ' .. now .. ' ' .. now .. ' ')
      end
    end
  end
  go_on(t)
end
