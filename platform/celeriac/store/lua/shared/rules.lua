-- Rules: which limits cover a task. A rule covers the tasks of a group, of a type, or of a type within a group. It counts them
-- together, or by their key or user: what it counts together is a bucket, which has the name of the key or user, '' where it counts all.
--
-- key.rules has the rules by name (JSON objects): group, type (text, one of them may be absent), by ('all', 'key' or 'user'),
-- max_running (count), rate (starts) with per_ms (ms), fair, ordered, max_waiting (count), note (text) and since_ms; what a rule does
-- not have is absent. The limits of a group are the rule 'group:NAME'. key.rules_of has the same objects, with their names, by what
-- they cover: 'group NAME' and 'type NAME' -> JSON array.
--
-- key.closed has what somebody else's service told to wait: GROUP\31KEY, or GROUP\31 for all of a group, by the time until when
-- (ms). It acts as a rule without a name, whose bucket is the member.

-- What the other parts use of this; each is described below. NOTHING: what covers a task that no rule covers.
local none_held, paused, prepared, rule_named, forget_held, closings_of, covering
local placed, count_in, first_in, id_in
local answer_of_full_key
local NOTHING, PAST_IT = {}, '\11'

do
  -- One look tells when nothing is held back, as nearly always.
  local any_held
  function none_held()
    if any_held == nil then any_held = redis.call('EXISTS', key.paused, key.resuming, key.rules, key.closed) > 0 end
    return not any_held
  end
  -- Whether a group is paused.
  paused = memo(function(group) return not none_held() and redis.call('HEXISTS', key.paused, group) == 1 end)

  -- Add what follows from a rule: `whole`, whether it counts all of a group; with a rate `every`, the ms from one start to the next, and
  -- `early`, the ms by which one may be ahead of that, so that what came late is made up for.
  function prepared(rule)
    rule.whole = rule.group and not rule.type and rule.by == 'all'
    if rule.rate then
      rule.early = math.min(rule.per_ms / 20, 100)
      -- So that `rate` and one more never start within `per_ms`. In 1/1024 ms: then no sum of them is rounded.
      rule.every = math.ceil((rule.per_ms + rule.early) / rule.rate * 1024) / 1024
    end
    return rule
  end

  -- The rules for a group and a type, as 'GROUP\nTYPE'.
  local rules_for = memo(function(place)
    local group, task_type = string.match(place, '^(.*)\n(.*)$')
    local found = {}
    local of_group, of_type = unpack(redis.call('HMGET', key.rules_of, 'group ' .. group, 'type ' .. task_type))
    for _, rule in ipairs(of_group and cjson.decode(of_group) or {}) do
      if not rule.type or rule.type == task_type then found[#found + 1] = prepared(rule) end
    end
    for _, rule in ipairs(of_type and cjson.decode(of_type) or {}) do found[#found + 1] = prepared(rule) end
    return found
  end)

  -- The rule of this name, as far as it still exists. '' is what acts for closed buckets.
  function rule_named(name)
    if name == '' then return {name = ''} end
    local text = redis.call('HGET', key.rules, name)
    if not text then return end
    local rule = cjson.decode(text)
    rule.name = name
    return prepared(rule)
  end

  -- Whether anything is closed.
  local any_closed

  -- Look again what is held: the script has set something.
  function forget_held() any_held, any_closed = nil, nil end
  on_call(forget_held)

  -- What a task could be closed with: all of its group, and its key in this group.
  function closings_of(t)
    if any_closed == nil then any_closed = redis.call('EXISTS', key.closed, key.parked('')) > 0 end
    if not any_closed then return NOTHING end
    return {t.queue .. '\31', t.key and t.queue .. '\31' .. t.key or nil}
  end

  -- What covers a task: pairs of a rule and the bucket that the task falls into. `t`: queue, type, key, user_id
  function covering(t)
    if none_held() then return NOTHING end
    local found = {}
    for _, bucket in ipairs(closings_of(t)) do
      local until_ms = tonumber(redis.call('ZSCORE', key.closed, bucket) or 0)
      if until_ms > now_ms then found[#found + 1] = {{name = '', closed_until = until_ms}, bucket} end
    end
    for _, rule in ipairs(rules_for[t.queue .. '\n' .. (t.type or '')]) do
      local bucket = rule.by == 'all' and '' or rule.by == 'key' and t.key or rule.by == 'user' and t.user_id
      if bucket and (bucket ~= '' or rule.by == 'all') then found[#found + 1] = {rule, bucket} end
    end
    return found
  end

  -- What each rule knows of tasks, beside its permits, is in sorted sets whose members are ordered as texts: a bucket and a line
  -- break come first, the id last.
  function count_in(set, prefix) return redis.call('ZLEXCOUNT', set, '[' .. prefix .. '\n', '(' .. prefix .. PAST_IT) end
  function first_in(set, prefix)
    return redis.call('ZRANGEBYLEX', set, '[' .. prefix .. '\n', '(' .. prefix .. PAST_IT, 'LIMIT', 0, 1)[1]
  end
  function id_in(member) return string.match(member, '[^\n]*$') end

  -- The place of a task in a sorted set of this kind, by its score in the waiting index (all priorities alike: `arrival`).
  function placed(prefix, score, id) return prefix .. '\n' .. format('%013.0f', score) .. '\n' .. id end

  -- The answer to a submission or a retry of a task whose key, or user, has as many waiting tasks as a rule allows, else nil. `t`: queue,
  -- type, key, user_id. `coming` counts what is accepted with it and not stored yet, by rule and bucket; the task is added to it.
  function answer_of_full_key(t, coming)
    for _, pair in ipairs(covering(t)) do
      local rule, bucket = pair[1], pair[2]
      if rule.max_waiting then
        local place = rule.name .. '\n' .. bucket
        local before = coming and coming[place] or 0
        if count_in(key.queued(rule.name), bucket) + before >= rule.max_waiting then
          return {'key_full', rule.name, int(rule.max_waiting), bucket, int(math.max(1, math.ceil((rule.every or 0) / 1000)))}
        end
        if coming then coming[place] = before + 1 end
      end
    end
  end
end
