-- Show the beginnings of records to people.
--
-- KEYS[1..] hashes of tasks   ARGV[1] most bytes of payload and of result (count)
--
-- Returns one array per hash: {status, group, owner, attempt, started_at, created_at, payload, result, error_code,
-- error_message, type, priority, delivery, bytes of the payload, life (see shared/life.lua)}, false for each that it does not have; {} if there is no such
-- hash. A payload with secrets is '***'.

local most = tonumber(ARGV[1])

local function beginning(text) return text and string.sub(text, 1, most) end

local shown = {}
for i, task in ipairs(KEYS) do
  local values = redis.pcall('HMGET', task, 'status', 'queue', 'owner', 'attempt', 'started_at', 'created_at', 'payload', 'result',
    'error_code', 'error_message', 'type', 'priority', 'delivery', 'secret_fields', 'life')
  -- The key may hold something other than a hash.
  if values.err then values = {} end
  local status, queue, owner, attempt, started_at, created_at, payload, result, error_code, error_message, task_type, priority,
    delivery, secret_fields, life = unpack(values)
  -- A space ahead is how records had it that were written before they had the field secret_fields.
  if secret_fields or (payload and string.byte(payload) == 32) then payload = '***' end
  shown[i] = status and {status, queue, owner, attempt, started_at, created_at, beginning(payload), beginning(result),
    error_code, error_message, task_type, priority, delivery, payload and #payload or 0, life} or {}
end
return shown
