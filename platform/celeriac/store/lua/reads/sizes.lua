-- Measure records before they are read.
--
-- KEYS[1..] hashes of tasks
--
-- Returns for each hash the bytes of its large fields (count), 0 if there is no such hash.

local sizes = {}
for i, task in ipairs(KEYS) do
  sizes[i] = redis.call('HSTRLEN', task, 'payload') + redis.call('HSTRLEN', task, 'result')
    + redis.call('HSTRLEN', task, 'message')
end
return sizes
