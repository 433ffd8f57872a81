-- Find the tasks whose ids begin alike among some entries of the global stream.
--
-- KEYS[1] the stream
-- ARGV[1] where to begin: the id of an entry, '(' and an id for the one after it, or '-'   ARGV[2] most entries (count)
-- ARGV[3] how the ids begin (text)
--
-- Returns {where to go on (text), '' at the end of the stream; each task id once ...}.

local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local prefix = ARGV[3]
local answer, seen = {''}, {}
for _, entry in ipairs(entries) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'task_id' then
      local id = fields[i + 1]
      if string.sub(id, 1, #prefix) == prefix and not seen[id] then
        seen[id] = true
        answer[#answer + 1] = id
      end
      break
    end
  end
end
if #entries == tonumber(ARGV[2]) then answer[1] = '(' .. entries[#entries][1] end
return answer
