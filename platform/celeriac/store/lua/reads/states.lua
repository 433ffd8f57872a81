-- Read the state of tasks, with results that are not too long.
--
-- KEYS[1..] hashes of tasks   ARGV[1] longest result to return (bytes)
--
-- Returns one array of texts per hash, false for what is absent: {status, percentage, stage, message, time of the last report (ms
-- since the epoch), updated_at (RFC 3339), error code, error message, user_id, result (JSON), '1' if the result was left out, life (see
-- shared/life.lua)}.

local longest = tonumber(ARGV[1])

local states = {}
for i, task in ipairs(KEYS) do
  local length = redis.pcall('HSTRLEN', task, 'result')
  -- The key may hold something other than a hash.
  if type(length) ~= 'number' then task, length = '', 0 end
  local short = length > 0 and length <= longest
  local status, percentage, stage, message, reported_ms, updated_at, error_code, error_message, user_id, life =
    unpack(redis.call('HMGET', task, 'status', 'percentage', 'stage', 'message_text', 'timestamp_ms', 'updated_at',
      'error_code', 'error_message', 'user_id', 'life'))
  states[i] = {status, percentage, stage, message, reported_ms, updated_at, error_code, error_message, user_id,
    short and redis.call('HGET', task, 'result'), length > longest and '1', life}
end
return states
