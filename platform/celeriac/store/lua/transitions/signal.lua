-- Give a task a signal that it waits for, or will wait for: the first one of a name counts. A task goes on if it waits for nothing
-- else.
--
-- ARGV[4] id (text)   ARGV[5] name (text)   ARGV[6] value (JSON)   ARGV[7] nonce of this call (text)
-- ARGV[8] the user who signals (text), '' for one who may signal all tasks
-- ARGV[9] the schema that the value fits (JSON), '' if none was looked at   ARGV[10] most signals of a task (count)
--
-- Returns {'received', when (ms since the epoch)} (also to a repeated call) | {'known', when} (there is one of this name) | {'schema',
-- JSON} (it must fit this one) | {'ended', STATUS} | {'full'} | {'unknown'} (no such task, or the user may not signal it).

local id, name, value, nonce, user, checked, most = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
local signals = key.signals(id)

local t = read(id, {'due_ms', 'awaits', unpack(FIELDS_OF_AN_END)})
if not t.status then return {'unknown'} end
local open = redis.call('HGET', key.open_conditions(id), 'signal:' .. name)
local question = open and question_of(open)
if not question and t.awaits then
  local item = cjson.decode(t.awaits)
  question = item.signal == name and item or nil
end
local may = user == '' or user == t.user_id
for _, one in ipairs(question and question.users or {}) do may = may or one == user end
if not may then return {'unknown'} end

local received = redis.call('HGET', signals, name)
if received then
  local by, at = string.match(received, '^%d+ (%S+) (%d+) ')
  return {by == nonce and 'received' or 'known', at}
end
if is_final(t.status) then return {'ended', t.status} end
if question and question.schema and question.schema ~= checked then return {'schema', question.schema} end
if redis.call('HLEN', signals) >= most then return {'full'} end

redis.call('HSET', signals, name, next_noted(id) .. ' ' .. nonce .. ' ' .. now .. ' ' .. value)
if open then
  t.noted = true
  close_item(t, 'signal:' .. name, open)
  go_on(t)
end
return {'received', now}
