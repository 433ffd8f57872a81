-- A task's record: the hash task:ID, all fields texts. `task_fields.py` lists them; a test compares the names.

-- Return the values of these fields of a record, false for each that it does not have; also for what the field `life` of a short
-- record says (see life.lua):
--   local status, fence = fields(id, 'status', 'fence')
local function fields(id, ...) return unpack(redis.call('HMGET', key.task(id), ...)) end

-- Return these fields of a record as a table, for the moves that several scripts share: `t.status` is the text, or false if
-- the record does not have the field; `t.id` is the task's id. What a short record does not have is there all the same; `t.life`
-- says that it is one. To use a field that was not read is an error. A key that holds something other than a hash counts as a
-- missing record, so that background roles go on.
--   local t = read(id, {'status', 'fence'})
local strictly = {__index = function(_, name) error('the field ' .. name .. ' was not read', 2) end}
local function read(id, names)
  local values, t = redis.pcall('HMGET', key.task(id), 'life', unpack(names)), setmetatable({id = id}, strictly)
  if values.err then
    if not string.find(values.err, 'WRONGTYPE', 1, true) then error(values.err, 0) end
    values = {}
  end
  -- What a foreign program has put there says nothing.
  t.life = values[1] and string.find(values[1], '^%d') and values[1] or false
  for i = 1, #names do t[names[i]] = values[i + 1] or false end
  if t.life then life.fill(t, names) end
  return t
end

-- The revision after `rev`, which is false if a foreign program wrote the record.
local function next_rev(rev) return int(tonumber(rev or 0) + 1) end

-- A record stays, with its events and its log, until it is given a time to live.
local function keep(id)
  redis.call('PERSIST', key.task(id))
  redis.call('PERSIST', key.task_events(id))
  redis.call('PERSIST', key.log(id))
  redis.call('PERSIST', key.steps(id))
  redis.call('PERSIST', key.signals(id))
end

-- A record and its events leave the store after this time (ms, text), and so do its log, and its steps and signals, if it has any.
-- `is_short`: it has no events of its own.
local function leave_after(id, kept_ms, has_log, has_kept, is_short)
  redis.call('PEXPIRE', key.task(id), kept_ms)
  if not is_short then redis.call('PEXPIRE', key.task_events(id), kept_ms) end
  if has_log then redis.call('PEXPIRE', key.log(id), kept_ms) end
  if has_kept then
    redis.call('PEXPIRE', key.steps(id), kept_ms)
    redis.call('PEXPIRE', key.signals(id), kept_ms)
  end
end

-- Whether a status is final. A task without a record (false) has not ended.
local function is_final(status) return status == 'COMPLETED' or status == 'FAILED' or status == 'CANCELLED' end
