-- Once: the key of a submission points to the task that holds it. Nothing unlocks it: whether the key is held is read from the record.
--
-- key.once(name) is a hash: id (the task that took the key last), before (an earlier one for whose end that waits, if there is one),
-- ended (how `id` ended, if the key is held for a time). The hash lives as long as the key is held for a time. The field `once` of a
-- record is 'UNTIL NAME', UNTIL being 'ended', 'started' or 'time'. An ended task takes its id out of the hash, so that the
-- number of hashes is bounded; that is not what frees the key.
-- key.debounce(name) is a hash: id (the task that further calls move), latest_ms (how far they can, ms since the epoch; absent: any
-- time). The field `debounce` of a record is NAME.

-- What is known of keys; each function is described below.
local holding = {}

do
  -- What `holders_of` looks at.
  local FIELDS_OF_A_HOLDER = {'status', 'attempt', 'once', 'user_id'}

  local function parts_of_once(t) return string.match(t.once or '', '^(%l+) (.*)$') end

  -- Whether an attempt of a task has started. One that was given back has not. `t`: status, attempt
  function holding.has_started(t) return t.status == 'PROCESSING' or (tonumber(t.attempt or 0) or 0) > 0 end

  local function holds(t, name)
    local kind, own = parts_of_once(t)
    return own == name and t.status and not is_final(t.status) and not (kind == 'started' and holding.has_started(t))
  end

  -- The tasks that hold a key, each nil if there is none: the last that took it, and the one for whose end that waits. Without both,
  -- {id, status} of a task that has ended and still holds the key for its time. They are read as FIELDS_OF_A_HOLDER.
  function holding.holders_of(name)
    local id, before, ended = unpack(redis.call('HMGET', key.once(name), 'id', 'before', 'ended'))
    if not id then return end
    local last, earlier = read(id, FIELDS_OF_A_HOLDER), before and read(before, FIELDS_OF_A_HOLDER)
    local last_holds, earlier_holds = holds(last, name), earlier and holds(earlier, name)
    if last_holds or earlier_holds then return last_holds and last or nil, earlier_holds and earlier or nil end
    -- A foreign program may have ended it, of which the store has not heard yet.
    if not ended and is_final(last.status) and parts_of_once(last) == 'time' then ended = last.status end
    if ended then return nil, nil, {id = id, status = ended} end
  end

  local function would_hold(t)
    local kind, name = parts_of_once(t)
    if kind == 'time' then return redis.call('HGET', key.once(name), 'id') == t.id and name end
    return (kind == 'ended' or (kind == 'started' and not holding.has_started({attempt = t.attempt, status = false}))) and name
  end

  -- The id of another task that holds the key of an ended one, which would hold it too if it ran again; else nil. `t`: once, attempt
  function holding.other_holder(t)
    local name = would_hold(t)
    if not name then return end
    local last, earlier = holding.holders_of(name)
    local holder = last or earlier
    return holder and holder.id ~= t.id and holder.id or nil
  end

  -- An ended task runs again, and holds its key as before. `t`: once, attempt
  function holding.again(t)
    local name = would_hold(t)
    if not name then return end
    redis.call('HDEL', key.once(name), 'ended', 'before')
    redis.call('HSET', key.once(name), 'id', t.id)
  end

  -- A task has ended: its keys do not point to it any more. `t`: once, debounce
  function holding.leave(t, status)
    if t.debounce and redis.call('HGET', key.debounce(t.debounce), 'id') == t.id then redis.call('DEL', key.debounce(t.debounce)) end
    local kind, name = parts_of_once(t)
    if not kind then return end
    local pointer = key.once(name)
    local id, before = unpack(redis.call('HMGET', pointer, 'id', 'before'))
    if before == t.id then redis.call('HDEL', pointer, 'before') end
    if id ~= t.id then return end
    local status_before = before and fields(before, 'status')
    if status_before and not is_final(status_before) then
      redis.call('HSET', pointer, 'id', before)
      redis.call('HDEL', pointer, 'before')
    elseif kind == 'time' then
      redis.call('HSET', pointer, 'ended', status)
    else
      redis.call('DEL', pointer)
    end
  end
end
