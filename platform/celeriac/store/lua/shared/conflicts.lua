-- Conflicts: a submission whose key another task holds (`once`), and one that moves a task that is still to start (`debounce`).
-- once.lua says what the keys point to. `further`: the fields and orders of the submission, see submit.lua.

-- What submissions use of this; each function is described below.
local conflicts = {}

do
  -- How long an answer is kept for a call that comes again (ms). A scheduler that was away fires for a moment again after longer.
  local ANSWERED_MS, FIRED_MS = 600000, 3600000

  local function answered(id, nonce, further)
    local kept = redis.call('GET', key.answered(id))
    if not kept then return end
    local heard, kind, holder, status = string.match(kept, '^([^\n]*)\n(%l+)\n([^\n]*)\n(%u+)$')
    if heard == nonce or further.definition_id then return {kind, holder, status} end
  end

  local function answer(id, nonce, further, kind, holder, status)
    redis.call('SET', key.answered(id), table.concat({nonce, kind, holder, status}, '\n'), 'PX',
      further.definition_id and FIRED_MS or ANSWERED_MS)
    return {kind, holder, status}
  end

  -- `other`: id of the task that the conflict has made, nil for none. `t`: user_id, or nothing for a task that has ended.
  local function tell_holder(t, further, other)
    if redis.call('EXISTS', key.task(t.id)) == 0 then return end
    local user = rawget(t, 'user_id')
    if user == nil then user = fields(t.id, 'user_id') end
    emit(t.id, user, 'deduplicated', 'on_conflict', further.on_conflict or 'return', 'next', other or '')
  end

  local function put_payload(t, payload, further)
    local id = t.id
    life.write_out(t)
    redis.call('HSET', key.task(id), 'payload', payload, 'updated_at', now_text())
    if further.secret_fields then
      redis.call('HSET', key.task(id), 'secret_fields', further.secret_fields)
    else
      redis.call('HDEL', key.task(id), 'secret_fields')
    end
  end

  -- A submission waits for the end of a task, whatever else it waits for.
  local function wait_for(further, holder)
    local pairs_before = further.depends_on and cjson.decode(further.depends_on) or {}
    for _, pair in ipairs(pairs_before) do
      if pair[1] == holder then return end
    end
    pairs_before[#pairs_before + 1] = {holder, 'ended'}
    further.depends_on = cjson.encode(pairs_before)
  end

  local function answer_of_once(id, payload, nonce, further)
    local name = string.match(further.once, '^%l+ (.*)$')
    local last, earlier, ended = holding.holders_of(name)
    local mode = further.on_conflict or 'return'
    local holder = last or earlier or ((mode == 'return' or mode == 'reject') and ended)
    if not holder then return nil, {} end
    if mode == 'return' or mode == 'reject' then
      tell_holder(holder, further)
      return answer(id, nonce, further, mode == 'return' and 'deduplicated' or 'duplicate', holder.id, holder.status)
    elseif mode == 'replace' then
      -- One at most runs: the last one waits for the earlier one.
      local taking = {replaced = {}}
      for place = 1, 2 do
        local t = ({last or false, earlier or false})[place]
        if t then taking.replaced[#taking.replaced + 1] = t end
        if t and t.status == 'PROCESSING' then
          taking.before = t.id
          wait_for(further, t.id)
        end
      end
      return nil, taking
    elseif not holding.has_started(holder) then
      put_payload(holder, payload, further)
      tell_holder(holder, further)
      return answer(id, nonce, further, 'deduplicated', holder.id, holder.status)
    end
    wait_for(further, holder.id)
    return nil, {before = holder.id, told = holder}
  end

  -- What a debounced submission looks at.
  local FIELDS_OF_A_MOVE = {'debounce', 'replaced_by', 'expires_ms', 'cost', unpack(FIELDS_OF_AN_END)}

  -- Move the task of an earlier call: to its new time, or back to it if it waits for a worker already.
  local function answer_of_debounce(id, payload, nonce, further, expires)
    local pointer = key.debounce(further.debounce)
    local first_id, latest_ms = unpack(redis.call('HMGET', pointer, 'id', 'latest_ms'))
    if not first_id then return end
    local t = read(first_id, FIELDS_OF_A_MOVE)
    local status = t.status
    if t.debounce ~= further.debounce or holding.has_started(t) or t.replaced_by then return end
    if status ~= 'SCHEDULED' and status ~= 'PENDING' then return end
    -- An external program takes it at this moment.
    if status == 'PENDING' and t.delivery == 'external' and redis.call('LREM', key.external, 0, t.id) == 0 then return end
    life.write_out(t)
    local due = now_ms + tonumber(further.debounce_ms)
    if latest_ms then due = math.min(due, tonumber(latest_ms)) end
    if not further.debounce_first then put_payload(t, payload, further) end
    if expires then
      redis.call('HSET', key.task(t.id), 'expires_ms', int(expires), 'expires_at', rfc3339(expires))
      redis.call('ZADD', key.expiring, int(expires), t.id)
    end
    if status == 'SCHEDULED' then
      redis.call('ZADD', key.delayed, int(due), t.id)
      redis.call('HSET', key.task(t.id), 'run_at', rfc3339(due), 'updated_at', now_text())
      emit(t.id, t.user_id, 'status', 'status', 'SCHEDULED', 'attempt', '0')
    elseif due > now_ms then
      unindex(t)
      delay(t.id, t.queue, 'SCHEDULED', due)
      emit(t.id, t.user_id, 'status', 'status', 'SCHEDULED', 'attempt', '0')
      status = 'SCHEDULED'
    elseif t.delivery == 'external' then
      redis.call('LPUSH', key.external, t.id)
    end
    return answer(id, nonce, further, 'debounced', t.id, status)
  end

  -- The answer to a submission that makes no task, else nil: then further.depends_on has the task for whose end it waits, and the
  -- second value is what `take` is told. `expires`: until when it may start (ms since the epoch), nil for ever
  function conflicts.answer(id, payload, nonce, further, expires)
    local before = answered(id, nonce, further)
    if before then return before end
    -- The holder may be of this batch.
    local failure = write_gathered()
    if failure then error(failure, 0) end
    local reply, taking
    if further.once then reply, taking = answer_of_once(id, payload, nonce, further) end
    if not reply and further.debounce then reply = answer_of_debounce(id, payload, nonce, further, expires) end
    return reply, taking or {}
  end

  -- A submission has been stored: its keys point to it, and those that it replaces are cancelled.
  function conflicts.take(id, further, taking)
    if further.debounce then
      local pointer = key.debounce(further.debounce)
      redis.call('DEL', pointer)
      redis.call('HSET', pointer, 'id', id)
      if further.max_delay_ms then redis.call('HSET', pointer, 'latest_ms', int(now_ms + tonumber(further.max_delay_ms))) end
    end
    if not further.once then return end
    if taking.told then tell_holder(taking.told, further, id) end
    -- The last one first: it would go on when the earlier one ends.
    for _, t in ipairs(taking.replaced or {}) do
      tell_holder(t, further, id)
      redis.call('HSET', key.task(t.id), 'superseded_by', id)
      cancel_task(read(t.id, FIELDS_OF_A_CANCELLATION), '')
    end
    local name = string.match(further.once, '^%l+ (.*)$')
    local pointer = key.once(name)
    redis.call('DEL', pointer)
    redis.call('HSET', pointer, 'id', id)
    if taking.before then redis.call('HSET', pointer, 'before', taking.before) end
    if further.once_ms then redis.call('PEXPIRE', pointer, further.once_ms) end
  end
end
