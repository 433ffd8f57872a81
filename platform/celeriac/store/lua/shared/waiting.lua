-- Waiting: the index of each group, its order, and how executors hear of a waiting task.

-- The index in which a task of this delivery waits: remote workers have one of their own in each group.
local function waiting_of(group, delivery)
  return delivery == 'remote' and key.remote(group) or key.waiting(group)
end

-- How many tasks of this delivery wait in the group.
local function count_waiting(group, delivery)
  if delivery ~= 'remote' then return redis.call('ZCARD', key.waiting(group)) end
  return redis.call('ZCARD', key.remote(group)) + redis.call('ZCARD', key.remote_parked(group))
end

-- Take `count` numbers of the sequence that all that waits is ordered by; returns the first.
local function take_seq(count) return redis.call('INCRBY', key.seq, count) - count + 1 end

-- Score in the waiting index: a band of 1e12 per priority, the higher one first; in it the order of
-- arrival, counted up from the middle. What is put in front counts down from there.
local BAND, MIDDLE = 1e12, 5e11
local function waiting_score(priority, front, seq)
  return int((9 - priority) * BAND + MIDDLE + (front and -seq or seq))
end

-- Wake the gateways that hold remote workers of a group: once in a call, whose changes they all see afterwards.
local woken
on_call(function() woken = emptied(woken) end)
local function wake(group)
  if not woken[group] then
    woken[group] = true
    redis.call('PUBLISH', key.remote_wake(group), group)
  end
end

-- What `hint` looks at, besides what it is told.
local FIELDS_OF_A_HINT = {'type', 'queue', 'priority', 'delivery', 'attempt', 'attempts_before', 'resumes', 'edition',
  'message'}

-- Tell the group's executors of a waiting task. `front`: before all others of its priority. `t`: FIELDS_OF_A_HINT.
-- Returns false if that was impossible: a submission is refused then; for a task that is stored it is a lost message like any
-- other.
local function hint(t, front, seq)
  local delivery = t.delivery or ''
  if delivery == '' then
    return push(celery_list(t.queue, tonumber(t.priority or 0) or 0), message_of(t, seq), front)
  elseif delivery == 'broker' then
    return push(key.outbox, t.id, front)
  elseif delivery == 'remote' then
    wake(t.queue)
  elseif delivery == 'external' then
    if not push(key.external, t.id, front) then return false end
    -- From now on a foreign program may write the record: watch_external.lua looks at it.
    redis.call('ZADD', key.watched, 'NX', now, t.id)
  end
  return true
end
