-- Measure records before they are read. (No shared part: it changes nothing.)
--
-- KEYS[1..] hashes of tasks
--
-- Returns for each the bytes of its large fields, 0 where there is no such hash.

local sizes = {}
for i, task in ipairs(KEYS) do
  sizes[i] = redis.call('HSTRLEN', task, 'payload') + redis.call('HSTRLEN', task, 'result')
    + redis.call('HSTRLEN', task, 'message')
end
return sizes
