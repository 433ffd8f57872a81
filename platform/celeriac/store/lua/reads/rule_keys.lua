-- Count what waits and what runs of the next keys of a rule.
--
-- KEYS[1] the index to go through, one of the following   KEYS[2] the rule's queued tasks   KEYS[3] its permits
-- ARGV[1] the key after which to begin (text), '' for the first one   ARGV[2] most keys (count)
--
-- Returns {key, waiting (count), running (count), ...}.

local index, queued, permits, after, most = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2])
local found, from = {}, after == '' and '-' or '(' .. after .. '\11'

while #found < 3 * most do
  local first = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', 0, 1)[1]
  if not first then break end
  local bucket = string.match(first, '^([^\n]*)\n')
  local low, high = '[' .. bucket .. '\n', '(' .. bucket .. '\11'
  found[#found + 1] = bucket
  found[#found + 1] = redis.call('ZLEXCOUNT', queued, low, high)
  found[#found + 1] = redis.call('ZLEXCOUNT', permits, low, high)
  from = high
end
return found
