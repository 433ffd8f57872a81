-- Add the counts of a group or a type to those of `other`; it has no counts of its own from now on.
--
-- ARGV[4] 'groups' or 'types'   ARGV[5] the group or type (text)
-- ARGV[6..] 2 values per count: 1 its field (text)   2 the field that it is added to (text)
--
-- Returns how many counts there were.

local kind, label = ARGV[4], ARGV[5]
local folded = 0

for base = 6, #ARGV, 2 do
  local number = redis.call('HGET', key.counts, ARGV[base])
  if number then
    redis.call('HDEL', key.counts, ARGV[base])
    redis.call('HINCRBY', key.counts, ARGV[base + 1], number)
    folded = folded + 1
  end
end
redis.call('SREM', kind == 'groups' and key.label_groups or key.label_types, label)
return folded
