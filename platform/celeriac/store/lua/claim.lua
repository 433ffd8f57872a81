-- Claim tasks for execution: PENDING -> PROCESSING, next attempt, new fence, lease.
--
-- ARGV[4] lease (ms)
-- ARGV[5..] 3 values per claim: 1 id   2 worker id   3 fence (unique text of this call)
--
-- Returns one array per claim: {'go', type, group, payload, attempt, max_retries, attempts_allowed,
-- user_id|false, metadata|false, timeout_ms|false, delivery|false, original_file_path|false} |
-- {'refused', reason}, reason being a status, 'unknown' (no record), 'expired', 'paused' or 'limited' (its group is), or
-- 'remote' (see claim_remote.lua).
-- A repeated call with the same fence gets the same answer.

local lease_until = int(now_ms + tonumber(ARGV[4]))
local now = int(now_ms)

-- Claimed tasks whose message is the only one that was out: group -> {ids}, and id -> priority.
local sole, priority_of = {}, {}

-- Note how far each list was consumed, for sweep.lua. Only the one message that is out proves it: an older one
-- of the same task stood in another place of the list.
local function note_consumed()
  for group, ids in pairs(sole) do
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

-- Tasks whose group is at a limit: group -> {ids}. Their messages are spent; when there is room, let_go sends others.
local limited = {}
local function note_limited()
  for group, ids in pairs(limited) do
    local scores = redis.call('ZMSCORE', key.waiting(group), unpack(ids))
    for i, id in ipairs(ids) do
      if scores[i] then change('ZADD', key.limited(group), scores[i], id) end
    end
  end
end

return each(5, 3, function(base)
  local id, worker, fence = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local task = key.task(id)
  local f = redis.call('HMGET', task, 'status', 'queue', 'priority', 'attempt', 'expires_ms', 'fence', 'hints',
    'progress_seq', 'run_at', 'type', 'payload', 'max_retries', 'attempts_allowed', 'user_id', 'metadata', 'timeout_ms',
    'delivery', 'original_file_path', 'rev', 'retention_ms', 'pending_ms')
  local status, group, attempt = f[1], f[2], tonumber(f[4] or 0)
  local hints = tonumber(f[7] or 0)
  local granted = status == 'PROCESSING' and f[6] == fence
  local reason = status or 'unknown'

  if status == 'PENDING' and f[17] == 'remote' then
    reason = 'remote'
  elseif status == 'PENDING' then
    if f[5] and tonumber(f[5]) <= now_ms and attempt == 0 then
      settle(id, status, group, int(attempt), 'FAILED', false, {'expired', 'it was not started before it expired', '0'}, {f[19], f[20], f[14], f[10]})
      reason = 'expired'
    elseif paused[group] then
      -- Its message is spent: resume.lua sends another one.
      reason = 'paused'
    elseif not admit(group) then
      reason = 'limited'
      if not f[17] or f[17] == 'broker' then
        limited[group] = limited[group] or {}
        table.insert(limited[group], id)
      end
    else
      if hints == 1 then
        local ids = sole[group]
        if not ids then
          ids = {}
          sole[group] = ids
        end
        ids[#ids + 1] = id
        priority_of[id] = tonumber(f[3] or 0)
      end
      change('ZREM', key.waiting(group), id)
      -- Of several messages an earlier one may have been refused.
      if limits[group] then change('ZREM', key.limited(group), id) end
      if f[5] then change('ZREM', key.expiring, id) end
      attempt = attempt + 1
      local attempt_text, rev = int(attempt), next_rev(f[19])
      user_of[id] = f[14] or ''
      change('ZADD', key.leases, lease_until, id)
      change('ZADD', key.running(group), now, id)
      redis.call('HSET', task, 'status', 'PROCESSING', 'attempt', attempt_text, 'owner', worker, 'fence', fence,
        'started_at', now_text, 'started_ms', now, 'updated_at', now_text, 'hints', int(math.max(hints - 1, 0)), 'rev', rev)
      if f[8] or f[9] then redis.call('HDEL', task, 'progress_seq', 'run_at') end
      emit_as(id, rev, 'status', 'status', 'PROCESSING', 'attempt', attempt_text, 'worker', worker)
      count_start(group, f[10], f[21])
      granted = true
    end
  elseif granted then
    -- Its reply was lost, and whoever holds it may not have renewed it yet.
    change('ZADD', key.leases, lease_until, id)
  end

  if granted then
    return {'go', f[10], group, f[11], int(attempt), f[12], f[13], f[14], f[15], f[16], f[17], f[18]}
  end
  if hints > 0 then redis.call('HINCRBY', task, 'hints', -1) end
  return {'refused', reason}
end, function()
  note_consumed()
  note_limited()
end)
