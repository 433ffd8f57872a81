-- Read the state of tasks, with results that are not too long. (No shared part: it only reads.)
--
-- KEYS[1..] records   ARGV[1] longest result to return (bytes)
--
-- Returns per record an array of texts, false where absent: status, percentage, stage, message, time of the last
-- report (ms), updated_at, error code, error message, user_id, result, '1' where the result was left out.

local states = {}
for i, record in ipairs(KEYS) do
  local state = redis.call('HMGET', record, 'status', 'percentage', 'stage', 'message_text', 'timestamp_ms', 'updated_at',
    'error_code', 'error_message', 'user_id')
  local length = redis.call('HSTRLEN', record, 'result')
  state[10] = length > 0 and length <= tonumber(ARGV[1]) and redis.call('HGET', record, 'result')
  state[11] = length > tonumber(ARGV[1]) and '1'
  states[i] = state
end
return states
