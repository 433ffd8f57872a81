-- Measure records before they are read.
--
-- KEYS[1..] hashes of tasks
--
-- Returns for each hash the bytes of its large fields (count), 0 if there is no such hash.

local sizes = {}
for i, task in ipairs(KEYS) do
  local payload = redis.pcall('HSTRLEN', task, 'payload')
  -- The key may hold something other than a hash.
  sizes[i] = type(payload) == 'number'
    and payload + redis.call('HSTRLEN', task, 'result') + redis.call('HSTRLEN', task, 'message') or 0
end
return sizes
