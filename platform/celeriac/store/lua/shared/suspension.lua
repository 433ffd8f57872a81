-- Suspension: what a WAITING task waits for, and what it has kept for the time after.
--
-- A task waits for the ends of others before its first attempt (dependencies.lua). An attempt may suspend itself too, and goes on
-- as the same attempt (suspend.lua). key.open_conditions(id) has what is open, as name -> text:
--   the id of a task -> the condition that its end is to meet: 'completed', 'failed' or 'ended'
--   'signal:NAME' -> a question (JSON object): wait (name of the wait, absent if its end is not kept), title (text), schema (JSON),
--     users (array of texts: who may answer besides the owner), expires_ms (ms since the epoch); each may be absent
--   'sleep:NAME' -> when it is over (ms since the epoch)
-- The task is in key.suspended, and in key.delayed if anything of that has a time: promote.lua looks at it then. key.waits has all
-- questions, key.waits_of(user) those that the user may answer, both as 'NAME ID' by the time since when (ms).
--
-- key.steps(id) has what handlers have done, as name -> 'N BEGAN NOTED VALUE' (times in ms since the epoch):
--   'step:NAME' (VALUE is a result in JSON), 'sleep:NAME' (when it is over, ms), 'child:NAME' (id of a task),
--   'wait:NAME' (a wait that timed out, VALUE is empty). A child with the N 0 is forgotten: the next one has another id.
-- key.signals(id) has what was signalled, as NAME -> 'N NONCE RECEIVED VALUE' (JSON). The field `noted` of the record counts all N.

-- Put a stored task among those that wait.
local function suspend(id, group)
  redis.call('ZADD', key.suspended, now, id)
  count_delayed(group, 1)
end

-- Number what is kept next of a task.
local function next_noted(id) return int(redis.call('HINCRBY', key.task(id), 'noted', 1)) end

-- What a hash has, as name -> text.
local function pairs_of(hash)
  local found, flat = {}, redis.call('HGETALL', hash)
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

-- What a task waits for.
local function open_of(id) return pairs_of(key.open_conditions(id)) end

-- The question of something open, nil if it is something else.
local function question_of(text) return string.byte(text) == 123 and cjson.decode(text) or nil end

-- Put a question into the lists of those who may answer it, or take it out of them. `t`: user_id (false or '' for none)
local function list_question(t, name, question, listed)
  local member = string.sub(name, 8) .. ' ' .. t.id
  local lists = {key.waits}
  if t.user_id and t.user_id ~= '' then lists[2] = key.waits_of(t.user_id) end
  for _, user in ipairs(question.users or {}) do lists[#lists + 1] = key.waits_of(user) end
  for _, list in ipairs(lists) do
    if listed then redis.call('ZADD', list, now, member) else redis.call('ZREM', list, member) end
  end
end

-- Wait for a signal or a time. `item`: {signal = NAME, timeout_ms (ms) or nil, and what a question has} or {sleep = NAME,
-- until_ms (ms since the epoch) or for_ms (ms from now)}. `t`: user_id. Returns how the record shows it (JSON).
local function open_item(t, item)
  local open = key.open_conditions(t.id)
  if item.sleep then
    local over = item.until_ms or now_ms + item.for_ms
    redis.call('HSET', open, 'sleep:' .. item.sleep, int(over))
    return '{"until":"' .. rfc3339(over) .. '"}'
  end
  local expires = item.timeout_ms and now_ms + item.timeout_ms
  local question = {wait = item.wait, title = item.title, schema = item.schema, users = item.users, expires_ms = expires}
  redis.call('HSET', open, 'signal:' .. item.signal, cjson.encode(question))
  list_question(t, 'signal:' .. item.signal, question, true)
  return '{"signal":' .. cjson.encode(item.signal) .. ',"title":' .. (item.title and cjson.encode(item.title) or 'null')
    .. ',"schema":' .. (item.schema or 'null') .. ',"expires_at":' .. (expires and '"' .. rfc3339(expires) .. '"' or 'null') .. '}'
end

-- Something is not open any more. `t`: user_id
local function close_item(t, name, text)
  redis.call('HDEL', key.open_conditions(t.id), name)
  local question = question_of(text)
  if question then list_question(t, name, question, false) end
end

-- Note when a waiting task is to be looked at: when the first thing that is open comes to its time.
local function note_time(id)
  local first
  for _, text in pairs(open_of(id)) do
    local question = question_of(text)
    local ms = tonumber(question and question.expires_ms or text)
    if ms and (not first or ms < first) then first = ms end
  end
  if first then redis.call('ZADD', key.delayed, int(first), id) else redis.call('ZREM', key.delayed, id) end
end

-- A task does not wait any more, or has ended. `t`: queue, user_id
local function end_wait(t)
  for name, text in pairs(open_of(t.id)) do
    local question = question_of(text)
    if question then list_question(t, name, question, false) end
  end
  redis.call('DEL', key.open_conditions(t.id))
  redis.call('ZREM', key.suspended, t.id)
  redis.call('ZREM', key.delayed, t.id)
  count_delayed(t.queue, -1)
end

-- Let a task that needs no worker begin to wait for what its field `awaits` says, instead of a worker. A signal that came before
-- is looked at at once. `t`: queue, user_id, attempt, awaits
local function begin_to_wait(t)
  local item = cjson.decode(t.awaits)
  suspend(t.id, t.queue)
  local shown = open_item(t, item)
  note_time(t.id)
  if item.signal and redis.call('HEXISTS', key.signals(t.id), item.signal) == 1 then redis.call('ZADD', key.delayed, now, t.id) end
  redis.call('HSET', key.task(t.id), 'status', 'WAITING', 'updated_at', now_text())
  emit(t.id, t.user_id, 'status', 'status', 'WAITING', 'attempt', int(tonumber(t.attempt or 0)), 'waiting_for', '[' .. shown .. ']')
end

-- Forget what a task has kept. The caller has let go of its children.
local function forget_kept(id)
  redis.call('DEL', key.steps(id), key.signals(id))
  redis.call('HDEL', key.task(id), 'noted', 'noted_bytes')
end
