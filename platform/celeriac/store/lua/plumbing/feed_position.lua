-- Look, before entries are read, whether the global stream was trimmed beyond what its recorders have read. It runs in one
-- MULTI with the reading. It creates the consumer group if there is none.
--
-- KEYS[1] the stream   KEYS[2] the recorders' notes (hash)   ARGV[1] the consumer group (text)
--
-- If entries were missed, or may have been, it notes that a resynchronisation is due, under a new number.
-- Returns {1 if that is so, else 0; the number of the one that is due (text), or ''}.

local stream, notes, name = KEYS[1], KEYS[2], ARGV[1]
local missed = 0

local function position()
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if type(groups) ~= 'table' or groups.err then return nil end
  for _, group in ipairs(groups) do
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    if fields.name == name then return fields['last-delivered-id'] end
  end
  return nil
end

local function before(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end

local delivered = position()
if not delivered then
  redis.call('XGROUP', 'CREATE', stream, name, '0', 'MKSTREAM')
  -- Servers before 7 do not say how many entries there ever were.
  delivered, missed = '0-0', 1
  local facts = redis.call('XINFO', 'STREAM', stream)
  local fields = {}
  for i = 1, #facts, 2 do fields[facts[i]] = facts[i + 1] end
  if fields['entries-added'] and fields['entries-added'] == fields.length then missed = 0 end
else
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  -- The entry read last is gone, so those right after it may be gone too.
  if first and delivered ~= '0-0' and before(delivered, first[1]) then missed = 1 end
end
if missed == 1 then
  redis.call('HSET', notes, 'resync', redis.call('HINCRBY', notes, 'asked', 1), 'cursor', '0')
end
return {missed, redis.call('HGET', notes, 'resync') or ''}
