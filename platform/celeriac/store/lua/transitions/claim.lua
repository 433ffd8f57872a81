-- Claim tasks for execution: PENDING -> PROCESSING, next attempt, new fence, lease.
--
-- ARGV[4] lease (ms)
-- ARGV[5..] 4 values per claim: 1 id (text)   2 worker id (text)   3 fence (unique text of this call)
--   4 the edition of the message (count, 0: the first one), '' if the message has nothing that the record may change
--
-- Returns one array per claim: {'go', type, group, payload (JSON), attempt (count), max_retries (count), attempts_allowed
-- (count), user_id|false, metadata (JSON)|false, timeout_ms|false, original_file_path|false, depends_on (JSON)|false,
-- '1' if the attempt before was lost or given back, else false; attempts of earlier calls of this id (count)|false;
-- workflow_id|false, node|false; noted|false (whether it has steps or signals); how long the attempt ran before it was suspended
-- (ms)|false; key|false} |
-- {'refused', reason}, reason being a status, 'unknown' (no record), 'expired', 'paused' (its group is), 'limited' (a rule holds it), 'remote'
-- (see claim_remote.lua), or 'replaced' (another call took the place of the message's, see replace.lua, again.lua and amend.lua).
-- A repeated call with the same fence gets the same answer.

local lease_ms = tonumber(ARGV[4])
local lease_until = int(now_ms + lease_ms)

-- Claimed tasks whose message is the only one that was out: group -> {ids}, and id -> priority.
local sole, priority_of = {}, {}

-- Note how far each list was consumed, for sweep.lua. Only the one message that is out proves it: an older one
-- of the same task stood in another place of the list. It comes before those tasks leave the index.
local function note_consumed()
  for group, ids in pairs(sole) do
    sole[group] = nil
    local scores = redis.call('ZMSCORE', key.waiting(group), unpack(ids))
    local furthest = {}
    for i, id in ipairs(ids) do
      local seq = tonumber(scores[i] or 0) % BAND
      local step = int(list_step(priority_of[id]))
      if seq > MIDDLE and seq > (furthest[step] or 0) then furthest[step] = seq end
    end
    for step, seq in pairs(furthest) do
      if seq > tonumber(redis.call('HGET', key.group(group), 'popped:' .. step) or 0) then
        redis.call('HSET', key.group(group), 'popped:' .. step, int(seq), 'popped_ms:' .. step, now)
      end
    end
  end
end

-- The only message of a task comes to its claim.
local function leave_list(group, id, priority)
  sole[group] = sole[group] or {}
  sole[group][#sole[group] + 1] = id
  priority_of[id] = priority
  if not gathered then note_consumed() end
end

-- What a record has that tells nothing but a usual life (type, queue, payload, nonce, status, max_retries, life), until it starts.
local PLAIN = 7

-- Claim a task whose record has nothing else, if nothing holds it back; returns nil if that is not so. It is most of what is claimed.
local function claim_plain(id, worker, fence)
  local status, task_type, queue, payload, max_retries, short_life =
    fields(id, 'status', 'type', 'queue', 'payload', 'max_retries', 'life')
  if status ~= 'PENDING' or not life.may_start(short_life) or not none_held() then return end
  leave_list(queue, id, 0)
  change('ZREM', key.waiting(queue), id)
  local attempt = start({
    id = id, status = status, queue = queue, type = task_type, attempt = '0', rev = '1', pending_ms = life.known(short_life),
    life = short_life,
  }, worker, lease_until, 'fence', fence)
  return {'go', task_type, queue, payload, attempt, max_retries, int(tonumber(max_retries) + 1), false, false, false, false, false,
    false, false, false, false, false, false, false}
end

-- Named variables, not a table: of all scripts this one and complete.lua run most often.
return each(5, 4, function(id, worker, fence, called)
  if (called == '' or called == '0') and redis.call('HLEN', key.task(id)) == PLAIN then
    local claimed = claim_plain(id, worker, fence)
    if claimed then return claimed end
  end
  local status, queue, task_type, attempt, rev, user_id, expires_ms, run_at, pending_ms, delivery, holder, hints, priority,
    payload, max_retries, attempts_allowed, metadata, timeout_ms, original_file_path, edition, attempts_before, depends_on,
    redelivered, workflow_id, node, noted, resumes, limited_by, cost, short_life =
    fields(id, 'status', 'queue', 'type', 'attempt', 'rev', 'user_id', 'expires_ms', 'run_at', 'pending_ms', 'delivery', 'fence',
      'hints', 'priority', 'payload', 'max_retries', 'attempts_allowed', 'metadata', 'timeout_ms', 'original_file_path',
      'edition', 'attempts_before', 'depends_on', 'redelivered', 'workflow_id', 'node', 'noted', 'resumes',
      'key', 'cost', 'life')
  -- A short record counts its messages only if there is not just the usual one.
  local hinted = hints or not short_life
  if short_life then
    local accepted_ms, started_ms, events = life.known(short_life)
    attempt, attempts_allowed = attempt or (started_ms and '1' or '0'), attempts_allowed or int((tonumber(max_retries) or 0) + 1)
    rev, pending_ms, hints = rev or events, pending_ms or accepted_ms, hints or (started_ms and 0 or 1)
  end
  hints = tonumber(hints or 0)
  local granted, reason = status == 'PROCESSING' and holder == fence, status or 'unknown'

  if granted then
    -- Its reply was lost, and the worker that holds it may not have renewed it yet.
    change('ZADD', key.leases, lease_until, id)
  elseif status == 'PENDING' and delivery == 'remote' then
    reason = 'remote'
  elseif status == 'PENDING' and called ~= '' and tonumber(called) ~= tonumber(edition or 0) then
    reason = 'replaced'
  elseif status == 'PENDING' and expires_ms and tonumber(expires_ms) <= now_ms
    and tonumber(attempt or 0) == tonumber(attempts_before or 0) then
    settle(read(id, FIELDS_OF_AN_END), 'FAILED', false, {'expired', 'it was not started before it expired', '0'})
    reason = 'expired'
  elseif status == 'PENDING' and paused[queue] then
    -- Its message is spent: resume.lua sends another one.
    reason = 'paused'
  elseif status == 'PENDING' and not none_held() and not admit({
    id = id, queue = queue, type = task_type, key = limited_by, user_id = user_id, cost = cost, delivery = delivery, priority = priority,
  }) then
    -- Its message is spent: when there is room, let_go sends another one.
    reason = 'limited'
  elseif status == 'PENDING' then
    granted = true
    if hints == 1 then leave_list(queue, id, tonumber(priority or 0)) end
    change('ZREM', key.waiting(queue), id)
    local t = {
      id = id, status = status, queue = queue, type = task_type, attempt = attempt, rev = rev, user_id = user_id,
      expires_ms = expires_ms, run_at = run_at, pending_ms = pending_ms, resumes = resumes, workflow_id = workflow_id, node = node,
      key = limited_by, life = short_life,
    }
    if hinted then
      attempt = start(t, worker, lease_until, 'fence', fence, 'hints', hints > 1 and int(hints - 1) or '0')
    else
      attempt = start(t, worker, lease_until, 'fence', fence)
    end
  end

  if granted then
    return {'go', task_type, queue, payload, attempt, max_retries, attempts_allowed, user_id, metadata, timeout_ms,
      original_file_path, depends_on, redelivered == attempt and '1', attempts_before, workflow_id, node, noted, resumes, limited_by}
  end
  if hints > 0 then redis.call('HSET', key.task(id), 'hints', int(hints - 1)) end
  return {'refused', reason}
end, note_consumed)
