-- Show the beginnings of records to people.
--
-- KEYS[1..] hashes of tasks   ARGV[1] most bytes of payload and of result (count)
--
-- Returns one array per hash: {status, group, owner, attempt, started_at, created_at, payload, result, error_code,
-- error_message}, false for each that it does not have; {} if there is no such hash.

local most = tonumber(ARGV[1])

local function beginning(text) return text and string.sub(text, 1, most) end

local shown = {}
for i, task in ipairs(KEYS) do
  local values = redis.pcall('HMGET', task, 'status', 'queue', 'owner', 'attempt', 'started_at', 'created_at', 'payload', 'result',
    'error_code', 'error_message')
  -- The key may hold something other than a hash.
  if values.err then values = {} end
  local status, queue, owner, attempt, started_at, created_at, payload, result, error_code, error_message = unpack(values)
  shown[i] = status and {status, queue, owner, attempt, started_at, created_at, beginning(payload), beginning(result),
    error_code, error_message} or {}
end
return shown
