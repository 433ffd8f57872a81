-- Limits: what holds a waiting task back, and when it is let go on.
--
-- Where a rule has no room for a task, the task is parked: it waits without a message (for remote workers: outside of the index
-- that they take from), in key.parked(rule), until there is room. A task that a rule covers and that is not parked is out: its
-- message is under way, and key.out(rule) has it. A claim asks all rules (`admit`), takes a permit from each of them or from none,
-- and parks the task at the first that has no room. So while a task is parked, either its rule has no room in its bucket, or as many
-- tasks of its lane are out as there is room for, or key.limits_due has a time when to look again.
--
-- key.permits(rule) has the running tasks of a rule; one that counts all of a group takes key.running(group) instead.
-- key.queued(rule) has its PENDING and RETRYING tasks. An ordered rule has key.arrivals(rule), its PENDING tasks in the order in which
-- they came, and key.holders(rule), the task of each bucket that has started and neither ended nor been suspended.
--
-- What key.parked(rule) has of a task is its bucket, lane, level (0: the highest priority), turn, place and id, divided by line breaks.
-- The turn is the bucket of the fair rule that covers the task too, '' if none does: within a level, turns are served one after the
-- other, from the one in key.turns(rule) on. So a key with many tasks holds no other key up where another rule has no room either.
-- The record's field `parked` has the rule, a line break and that member; `arrival` is what key.arrivals has of the task.

-- What a transition looks at for the rules that cover a task.
local FIELDS_OF_A_LIMIT = {'queue', 'type', 'key', 'user_id', 'cost', 'delivery', 'priority'}

-- What transitions use of this; each is described below.
local held_back, score_of, running_in, free_starts, is_next, park_or_send, withdraw, note_queued
local is_parked, leave_queue, take_permits, give_permits, note_retrying, vacate, end_turn, withheld, admit, let_go

do
  -- Whether a task of this score is to be told nobody yet: its group is paused, or resume.lua, which goes through all
  -- that waits, has not come to it: then it would overtake others.
  local resumed_to = memo(function(group)
    local score = redis.call('HGET', key.resuming, group)
    return score and tonumber(score) or math.huge
  end)
  function held_back(group, score)
    if none_held() then return false end
    return paused[group] or tonumber(score) > resumed_to[group]
  end

  -- The lane of a bucket in which a task is parked and out. Tasks of a lane have the same workers: those of another lane may
  -- go on while nobody takes these. In a fair rule tasks of one priority share a lane, and one of them is out at a time; so the queue
  -- itself gives each bucket its turn.
  local function lane_of(rule, t)
    local kind = t.delivery == 'remote' and 'r' or 'c'
    if rule.name == '' or rule.ordered then return '' end
    if rule.fair then return kind .. '\n' .. int(list_step(tonumber(t.priority or 0) or 0)) end
    return t.queue .. '\n' .. kind
  end
  -- What limits how many of a lane may be out.
  local function counted_lane(rule, t)
    return rule.fair and not rule.ordered and (t.delivery == 'remote' and 'r' or 'c') or lane_of(rule, t)
  end

  -- What a parked task is ordered by within its lane. The front of an ordered rule's lane is found by `turn_of`.
  local function level_and_turn(rule, covered, score)
    if rule.ordered then return '0\n' end
    local turn = ''
    for _, pair in ipairs(covered) do
      if pair[1].fair and pair[1].name ~= rule.name and turn == '' then turn = pair[2] end
    end
    return int(math.floor(score / BAND)) .. '\n' .. turn
  end
  local function out_member(rule, bucket, t) return bucket .. '\n' .. lane_of(rule, t) .. '\n' .. t.id end

  -- Where the task of a limited group or type waits, as its score in the index; nil if it is in none.
  function score_of(t)
    local score = redis.call('ZSCORE', waiting_of(t.queue, t.delivery), t.id)
    if not score and t.delivery == 'remote' then score = redis.call('ZSCORE', key.remote_parked(t.queue), t.id) end
    return score and tonumber(score)
  end

  -- Have promote.lua look at a bucket at this time (ms), or earlier where that is noted.
  local function look_at(rule, bucket, at)
    redis.call('ZADD', key.limits_due, 'LT', int(math.ceil(at)), rule.name .. '\n' .. bucket)
  end

  -- How many tasks of a bucket run. External programs ask nobody, so it may be more than may run.
  function running_in(rule, bucket)
    if not rule.whole then return count_in(key.permits(rule.name), bucket) end
    return redis.call('ZCARD', key.running(rule.group)) + (gathered and granted_here[rule.group] or 0)
  end

  -- How many tasks of a bucket may start now by the rate, and the time (ms) that the next start is counted from.
  -- The generic cell rate algorithm as virtual scheduling (ITU-T I.371, annex A), whose "theoretical arrival time" is kept. Its member
  -- '\n' has the highest cost of a task, negative.
  function free_starts(rule, bucket)
    local noted, cost = unpack(redis.call('ZMSCORE', key.rates(rule.name), bucket, '\n'))
    local next_start = math.max(tonumber(noted or 0), now_ms)
    -- Further ahead than it can be: the clock was set back.
    if next_start > now_ms + rule.early + rule.every * -tonumber(cost or -1) then next_start = now_ms end
    local early = now_ms + rule.early - next_start
    return early >= 0 and math.floor(early / rule.every) + 1 or 0, next_start
  end

  -- Take what a task costs from the rate of a bucket.
  local function pay(rule, bucket, cost)
    local rates = key.rates(rule.name)
    local _, next_start = free_starts(rule, bucket)
    if rule.by ~= 'all' then redis.call('ZREMRANGEBYSCORE', rates, 1, int(now_ms)) end
    redis.call('ZADD', rates, format('%.10f', next_start + rule.every * cost), bucket)
    if cost > 1 then redis.call('ZADD', rates, 'LT', -cost, '\n') end
  end

  -- The id of the task that has the turn in an ordered bucket: it has begun before, or nobody has and it came first; nil if nobody has
  -- it. What a foreign program has taken away has no turn. `own`: a task that this script is about to store.
  local function turn_of(rule, bucket, own)
    local holders = key.holders(rule.name)
    for _, set in ipairs({holders, key.arrivals(rule.name)}) do
      local first = first_in(set, bucket)
      while first do
        local id = id_in(first)
        local status = id ~= own and read(id, {'status'}).status
        if id == own or status == 'PENDING' or (set == holders and status and not is_final(status)) then return id end
        redis.call('ZREM', set, first)
        first = first_in(set, bucket)
      end
    end
  end
  function is_next(rule, bucket, id)
    local next_id = turn_of(rule, bucket, id)
    return not next_id or next_id == id
  end

  -- How many tasks are out that would take the places of this one's lane.
  local function count_out(rule, bucket, t) return count_in(key.out(rule.name), bucket .. '\n' .. counted_lane(rule, t)) end

  -- The pair of `covered` that keeps a task from being claimed (`claiming`) or from being let out, nil if none does. The rates come
  -- last. If only time keeps it, a look at the bucket is noted.
  local function obstacle_to(t, covered, claiming)
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.closed_until then
        look_at(rule, bucket, rule.closed_until)
        return pair
      end
      if rule.ordered and not is_next(rule, bucket, t.id) then return pair end
      if rule.max_running and running_in(rule, bucket) + (claiming and 0 or count_out(rule, bucket, t)) >= rule.max_running then
        return pair
      end
      -- What was sent before the rule was set waits for its turn too.
      if rule.fair and claiming and not redis.call('ZSCORE', key.out(rule.name), out_member(rule, bucket, t)) then return pair end
      if rule.fair and not claiming and count_in(key.out(rule.name), bucket .. '\n' .. lane_of(rule, t)) > 0 then return pair end
    end
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.every then
        local starts, next_start = free_starts(rule, bucket)
        if starts <= (claiming and 0 or count_out(rule, bucket, t)) then
          if next_start - rule.early > now_ms then look_at(rule, bucket, next_start - rule.early) end
          return pair
        end
      end
    end
  end

  -- A task is out from now on, or not any more.
  local function note_out(t, covered)
    for _, pair in ipairs(covered) do
      if pair[1].name ~= '' then redis.call('ZADD', key.out(pair[1].name), 0, out_member(pair[1], pair[2], t)) end
    end
  end
  local function forget_out(t, covered)
    for _, pair in ipairs(covered) do
      if pair[1].name ~= '' then redis.call('ZREM', key.out(pair[1].name), out_member(pair[1], pair[2], t)) end
    end
  end

  -- A task waits without a message from now on, until there is room for it.
  local function park(t, pair, covered, score)
    local rule, bucket = pair[1], pair[2]
    local member = placed(bucket .. '\n' .. lane_of(rule, t) .. '\n' .. level_and_turn(rule, covered, score), score, t.id)
    redis.call('ZADD', key.parked(rule.name), 0, member)
    redis.call('HSET', key.task(t.id), 'parked', rule.name .. '\n' .. member)
    if t.delivery == 'remote' then
      change('ZREM', key.remote(t.queue), t.id)
      change('ZADD', key.remote_parked(t.queue), int(score), t.id)
    end
  end

  -- The set and the member by which a task is parked, nil if it is not.
  local function parked_by(id)
    local rule, member = string.match(read(id, {'parked'}).parked or '', '^([^\n]*)\n(.*)$')
    if rule and redis.call('ZSCORE', key.parked(rule), member) then return key.parked(rule), member end
  end
  function is_parked(id) return parked_by(id) ~= nil end

  -- A task is neither parked nor out any more.
  function withdraw(t, covered)
    local set, member = parked_by(t.id)
    if set then
      redis.call('ZREM', set, member)
      redis.call('HDEL', key.task(t.id), 'parked')
    end
    forget_out(t, covered)
  end

  -- Park a waiting task that is neither parked nor out, or note that it is out. Returns whether it is out. `t`: FIELDS_OF_A_LIMIT
  function park_or_send(t, covered, score)
    local obstacle = obstacle_to(t, covered, false)
    if obstacle then park(t, obstacle, covered, score) else note_out(t, covered) end
    return not obstacle
  end

  -- A task comes to wait under these rules.
  function note_queued(t, covered, score)
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.name ~= '' and not rule.whole then
        redis.call('ZADD', key.queued(rule.name), 0, bucket .. '\n' .. t.id)
        if rule.ordered and not redis.call('ZSCORE', key.holders(rule.name), bucket .. '\n' .. t.id) then
          local known, resumes = fields(t.id, 'arrival', 'resumes')
          -- One that goes on after it was suspended has come before all that have not begun.
          local arrival = known or format('%013.0f', resumes and MIDDLE - take_seq(1) or score % BAND)
          if not known then redis.call('HSET', key.task(t.id), 'arrival', arrival) end
          redis.call('ZADD', key.arrivals(rule.name), 0, placed(bucket, arrival, t.id))
        end
      end
    end
  end

  -- A task does not wait under these rules any more.
  function leave_queue(t, covered)
    if t.delivery == 'remote' and not none_held() then change('ZREM', key.remote_parked(t.queue), t.id) end
    if #covered == 0 and #closings_of(t) == 0 then return end
    withdraw(t, covered)
    local arrival
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.name ~= '' and not rule.whole then redis.call('ZREM', key.queued(rule.name), bucket .. '\n' .. t.id) end
      if rule.ordered then
        arrival = arrival or fields(t.id, 'arrival')
        if arrival then redis.call('ZREM', key.arrivals(rule.name), placed(bucket, arrival, t.id)) end
      end
    end
    if arrival then redis.call('HDEL', key.task(t.id), 'arrival') end
  end

  -- A task runs under these rules, or does not any more.
  function take_permits(t, covered)
    for _, pair in ipairs(covered) do
      local rule, member = pair[1], pair[2] .. '\n' .. t.id
      if rule.name ~= '' and not rule.whole then
        redis.call('ZADD', key.permits(rule.name), 0, member)
        if rule.ordered then redis.call('ZADD', key.holders(rule.name), 0, member) end
      end
    end
  end
  function give_permits(t, covered)
    for _, pair in ipairs(covered) do
      if pair[1].name ~= '' and not pair[1].whole then redis.call('ZREM', key.permits(pair[1].name), pair[2] .. '\n' .. t.id) end
    end
  end

  -- A task that failed waits for its next attempt, and counts as waiting for its key.
  function note_retrying(t)
    for _, pair in ipairs(covering(t)) do
      if pair[1].name ~= '' and not pair[1].whole then redis.call('ZADD', key.queued(pair[1].name), 0, pair[2] .. '\n' .. t.id) end
    end
  end

  -- A task has left the waiting or the running ones of these rules: others may be let go, at the end of the script's changes of it.
  function vacate(covered)
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.name ~= '' then
        local place = rule.name .. '\n' .. bucket
        local left = left_here[place] or {rule, bucket, 0}
        left[3] = left[3] + 1
        left_here[place] = left
      end
    end
  end

  -- A task has ended, is suspended, or is under other rules from now on: the turn of its ordered buckets is another's.
  function end_turn(t)
    for _, pair in ipairs(covering(t)) do
      if pair[1].ordered then
        redis.call('ZREM', key.holders(pair[1].name), pair[2] .. '\n' .. t.id)
        vacate({pair})
      end
    end
  end

  -- Whether a task that comes to wait, with this score, is to be told nobody yet: 'parked', or 'held' because its group is; else false.
  -- `t`: FIELDS_OF_A_LIMIT
  function withheld(t, score)
    if none_held() then return false end
    local remote = t.delivery == 'remote'
    local celery = not t.delivery or t.delivery == '' or t.delivery == 'broker'
    local covered = (remote or celery) and covering(t) or NOTHING
    note_queued(t, covered, score)
    if held_back(t.queue, score) and not remote then return 'held' end
    return #covered > 0 and not park_or_send(t, covered, score) and 'parked'
  end

  -- Whether a waiting task may start now. If so, it waits no longer under its rules, and has paid what it costs; else it is parked
  -- (one whose record is damaged is not). `t`: FIELDS_OF_A_LIMIT
  function admit(t)
    local covered = covering(t)
    if covered == NOTHING then return true end
    local obstacle = obstacle_to(t, covered, true)
    if obstacle then
      local score = score_of(t)
      if score then
        withdraw(t, covered)
        note_queued(t, covered, score)
        -- A place at the end of the index was for its turn: it comes before what waits behind it.
        if t.delivery == 'remote' then score = waiting_score(tonumber(t.priority or 0) or 0, true, take_seq(1)) end
        park(t, obstacle, covered, score)
      end
      -- Its room under the other rules is left to others.
      vacate(covered)
      return false
    end
    leave_queue(t, covered)
    for _, pair in ipairs(covered) do
      local rule, bucket = pair[1], pair[2]
      if rule.every then pay(rule, bucket, tonumber(t.cost or 1)) end
      if rule.whole then granted_here[rule.group] = (granted_here[rule.group] or 0) + 1 end
      if rule.fair or rule.every then vacate({pair}) end
    end
    return true
  end

  -- Parked tasks that one call looks at, at most; promote.lua goes on where there are more.
  local MOST_LET_GO = 500

  -- Tell the executors of a parked task that there is room for it. `last`: it goes after all that is in the queue. `t`: FIELDS_OF_A_HINT
  -- and FIELDS_OF_A_LIMIT
  local function send_out(t, last)
    if t.delivery == 'remote' then
      local score = redis.call('ZSCORE', key.remote_parked(t.queue), t.id)
      redis.call('ZREM', key.remote_parked(t.queue), t.id)
      if last or not score then score = waiting_score(tonumber(t.priority or 0) or 0, false, take_seq(1)) end
      redis.call('ZADD', key.remote(t.queue), score, t.id)
      wake(t.queue)
    else
      life.count_hint(t.id, 1)
      redis.call('HSET', key.task(t.id), 'hinted_ms', now)
      hint(t, not last, take_seq(1))
    end
  end

  local FIELDS_OF_A_PARKED = {'status', 'key', 'user_id', 'cost', 'parked', unpack(FIELDS_OF_A_HINT)}

  -- The member of a lane that goes on next, nil if there is none; also the level it is of, its turn, and the turn that was served last.
  local function next_in(rule, bucket, lane)
    local parked, prefix = key.parked(rule.name), bucket .. '\n' .. lane
    local first = first_in(parked, prefix)
    if not first then return end
    if rule.ordered then
      local id = turn_of(rule, bucket)
      local set, member = parked_by(id or '')
      if set == parked then first = member end
      return first
    end
    local level, turn = string.match(string.sub(first, #prefix + 2), '^(%d+)\n([^\n]*)\n')
    level = prefix .. '\n' .. level
    local last = redis.call('HGET', key.turns(rule.name), level)
    if last then
      local after = redis.call('ZRANGEBYLEX', parked, '(' .. level .. '\n' .. last .. PAST_IT, '(' .. level .. PAST_IT, 'LIMIT', 0, 1)[1]
      if after then first, turn = after, string.match(string.sub(after, #level + 2), '^([^\n]*)\n') end
    end
    return first, level, turn, last
  end

  -- Note whose turn was served last.
  local function note_turn(rule, level, turn, last)
    if turn == '' and not last then return end
    if first_in(key.parked(rule.name), level) then
      redis.call('HSET', key.turns(rule.name), level, turn)
    elseif last then
      redis.call('HDEL', key.turns(rule.name), level)
    end
  end

  -- Whether a rule, or what closed a bucket, holds back all tasks of a group alike.
  local function is_of_all(rule, bucket) return rule.whole or (rule.name == '' and string.sub(bucket, -1) == '\31') end

  -- Let go on up to `most` tasks that are parked in a lane of a bucket, as far as there is room. One that goes on to wait for all of its
  -- group counts as one: the next one comes when it starts or leaves, so that few move at once. Returns how many it looked at.
  local function let_lane_go(rule, bucket, lane, most, budget)
    local parked, looked, going, has_turn, moved = key.parked(rule.name), 0, {}, {}, 0
    while #going + moved < most and looked < budget do
      local found, level, turn, last = next_in(rule, bucket, lane)
      if not found then break end
      looked = looked + 1
      local t = read(id_in(found), FIELDS_OF_A_PARKED)
      local score = t.status == 'PENDING' and t.queue and t.parked == rule.name .. '\n' .. found and score_of(t)
      local covered = score and covering(t)
      local obstacle = covered and obstacle_to(t, covered, false)
      if obstacle and obstacle[1].name == rule.name and obstacle[2] == bucket then break end
      redis.call('ZREM', parked, found)
      if level then note_turn(rule, level, turn, last) end
      if obstacle then
        park(t, obstacle, covered, score)
        if is_of_all(obstacle[1], obstacle[2]) then moved = moved + 1 end
        -- The next ones of its buckets have waited for it.
        if is_of_all(rule, bucket) then
          for _, pair in ipairs(covered) do
            if not is_of_all(pair[1], pair[2]) then vacate({pair}) end
          end
        end
      elseif covered then
        redis.call('HDEL', key.task(t.id), 'parked')
        if t.delivery == 'remote' or not held_back(t.queue, score) then
          note_out(t, covered)
          going[#going + 1] = t
          for _, pair in ipairs(covered) do has_turn[t] = has_turn[t] or pair[1].fair end
        end
      end
    end
    -- Where keys take turns, the queue itself is the turn. Else backwards: what is put in front last is taken first.
    for n = 1, #going do
      if has_turn[going[n]] then send_out(going[n], true) end
    end
    for n = #going, 1, -1 do
      if not has_turn[going[n]] then send_out(going[n], false) end
    end
    return looked
  end

  -- Let go on up to `most` tasks of each lane of a bucket, as far as there is room.
  function let_go(rule, bucket, most)
    -- resume.lua comes here again.
    if rule.group and paused[rule.group] then return end
    local parked, from, budget = key.parked(rule.name), '[' .. bucket .. '\n', MOST_LET_GO
    while true do
      local found = redis.call('ZRANGEBYLEX', parked, from, '(' .. bucket .. PAST_IT, 'LIMIT', 0, 1)[1]
      if not found then return end
      if budget <= 0 then return look_at(rule, bucket, now_ms) end
      local lane = string.match(string.sub(found, #bucket + 2), '^(.*)\n%d+\n[^\n]*\n%d+\n[^\n]*$')
      budget = budget - let_lane_go(rule, bucket, lane, most, budget)
      if budget <= 0 then return look_at(rule, bucket, now_ms) end
      from = '(' .. bucket .. '\n' .. lane .. PAST_IT
    end
  end

  -- What holds more tasks back comes first: a place in the group is not for the next one of the key that left it, but for the one that
  -- has waited for it.
  local function rank_of(rule) return rule.whole and 0 or rule.by == 'all' and 1 or rule.fair and 3 or 2 end

  function let_others_go()
    while next(left_here) ~= nil do
      local left = {}
      for place, one in pairs(left_here) do
        one.place = place
        left[#left + 1] = one
      end
      left_here = {}
      table.sort(left, function(a, b)
        local first, second = rank_of(a[1]), rank_of(b[1])
        return first < second or (first == second and a.place < b.place)
      end)
      for _, one in ipairs(left) do
        if redis.call('EXISTS', key.parked(one[1].name)) == 1 then let_go(unpack(one)) end
      end
    end
  end
end
