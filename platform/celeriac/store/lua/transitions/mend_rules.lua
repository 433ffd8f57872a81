-- Look at some of what rules know of tasks, by chance, and forget what is not so: a foreign program may have deleted a record, or
-- written into it. Others go on where that made room, or where they were overlooked.
--
-- ARGV[4] most to look at, of each set (count)   ARGV[5..] rules (names), '' for what is closed
--
-- Returns how much was forgotten (count).

local most, forgotten = tonumber(ARGV[4]), 0

-- The statuses of the tasks that each set may have.
local RUNS, WAITS = {PROCESSING = true}, {PENDING = true}
local COUNTS, OPEN = {PENDING = true, RETRYING = true}, {PENDING = true, RETRYING = true, PROCESSING = true, SCHEDULED = true}

local function mend(set, rule, statuses)
  for _, member in ipairs(redis.call('ZRANDMEMBER', set, most)) do
    local bucket = string.match(member, '^([^\n]*)\n')
    if not statuses[read(id_in(member), {'status'}).status] then
      redis.call('ZREM', set, member)
      forgotten = forgotten + 1
      if bucket then vacate({{rule, bucket}}) end
    end
  end
end

for i = 5, #ARGV do
  local rule = rule_named(ARGV[i])
  if rule then
    mend(key.permits(rule.name), rule, RUNS)
    mend(key.holders(rule.name), rule, OPEN)
    mend(key.out(rule.name), rule, WAITS)
    mend(key.queued(rule.name), rule, COUNTS)
    mend(key.arrivals(rule.name), rule, WAITS)
    if rule.whole then
      mend(key.running(rule.group), rule, RUNS)
      vacate({{rule, ''}})
    end
    for _, member in ipairs(redis.call('ZRANDMEMBER', key.parked(rule.name), most)) do
      let_go(rule, string.match(member, '^([^\n]*)\n'), 1)
    end
    for _, level in ipairs(redis.call('HRANDFIELD', key.turns(rule.name), most)) do
      if not first_in(key.parked(rule.name), level) then redis.call('HDEL', key.turns(rule.name), level) end
    end
  end
end
let_others_go()
return forgotten
