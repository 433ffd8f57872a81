-- Show the beginnings of records to people. (No shared part: it changes nothing.)
--
-- KEYS[1..] hashes of tasks   ARGV[1] most bytes of payload and result
--
-- Returns for each {status, queue, owner, attempt, started_at, created_at, payload, result, error_code, error_message},
-- false in the place of what it has not, and an empty array where there is no such hash.

local most = tonumber(ARGV[1])
local shown = {}
for i, task in ipairs(KEYS) do
  local f = redis.call('HMGET', task, 'status', 'queue', 'owner', 'attempt', 'started_at', 'created_at', 'payload', 'result',
    'error_code', 'error_message')
  if f[1] then
    for n = 7, 8 do
      if f[n] then f[n] = string.sub(f[n], 1, most) end
    end
    shown[i] = f
  else
    shown[i] = {}
  end
end
return shown
