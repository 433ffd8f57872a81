-- Claim the next tasks of groups for remote workers: PENDING -> PROCESSING, priority first, then arrival.
--
-- ARGV[4] lease (ms)
-- ARGV[5..] 6 values per call: 1 group   2 worker ids (JSON array), one per task that may be given
--   3 gateway (unique text of the process)   4 number of the call (counts up within the process)
--   5 fence: of the n-th worker it is this text, ':' and n   6 '1' = wake other gateways when tasks are left
--
-- Returns one array per call: {tasks left waiting that may start (count), then per granted task {n (place of its worker, from 1), id,
-- type, payload, attempt, max_retries, attempts_allowed, user_id|false, metadata|false, timeout_ms|false,
-- ms until its deadline|false, reply_to|false}}.
-- A repeated call (its reply was lost) gets what it was granted before and still holds.

local lease_until = int(now_ms + tonumber(ARGV[4]))
local now = int(now_ms)
local FIELDS = {'status', 'delivery', 'attempt', 'type', 'payload', 'max_retries', 'attempts_allowed', 'user_id', 'metadata',
  'timeout_ms', 'deadline_ms', 'reply_to', 'expires_ms', 'rev', 'retention_ms', 'run_at', 'progress_seq', 'fence', 'pending_ms'}

-- Tasks past their time that one call ends at most (and some of the page that it reads).
local MOST_LATE = 200

local function read(id) return redis.call('HMGET', key.task(id), unpack(FIELDS)) end

local function granted(n, id, f, attempt)
  local left = f[11] and int(math.max(tonumber(f[11]) - now_ms, 0))
  return {n, id, f[4], f[5], int(attempt), f[6], f[7], f[8], f[9], f[10], left, f[12]}
end

-- What a call was granted, found by its fence among all that runs: only for repeated calls.
local function granted_before(group, fence)
  local reply = {}
  for _, id in ipairs(redis.call('ZRANGE', key.running(group), 0, -1)) do
    local f = read(id)
    if f[1] == 'PROCESSING' and f[18] and string.sub(f[18], 1, #fence + 1) == fence .. ':' then
      reply[#reply + 1] = granted(tonumber(string.sub(f[18], #fence + 2)), id, f, f[3])
      -- Whoever holds it may not have renewed it yet.
      change('ZADD', key.leases, lease_until, id)
    end
  end
  return reply
end

return each(5, 6, function(base)
  local group, workers, gateway = ARGV[base], cjson.decode(ARGV[base + 1]), ARGV[base + 2]
  local number, fence, tell = tonumber(ARGV[base + 3]), ARGV[base + 4], ARGV[base + 5]
  local waiting = key.remote(group)
  if number <= tonumber(redis.call('GET', key.granted(gateway)) or 0) then
    local before = granted_before(group, fence)
    table.insert(before, 1, paused[group] and 0 or redis.call('ZCARD', waiting))
    return before
  end
  redis.call('SET', key.granted(gateway), int(number), 'PX', 600000)

  -- The group goes on with a wake-up, see resume.lua.
  if paused[group] then return {0} end
  local reply, late, full = {0}, 0, false
  -- Many that are too late hold nobody up for long: the asker comes again while tasks are left, and reapers see to them.
  while #reply <= #workers and late < MOST_LATE and not full do
    local ids = redis.call('ZRANGE', waiting, 0, #workers - #reply)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local task, f = key.task(id), read(id)
      local attempt = tonumber(f[3] or 0)
      if f[1] ~= 'PENDING' or f[2] ~= 'remote' then
        redis.call('ZREM', waiting, id)
      elseif f[11] and tonumber(f[11]) <= now_ms then
        redis.call('ZREM', waiting, id)
        time_out(id)
        late = late + 1
      elseif f[13] and tonumber(f[13]) <= now_ms and attempt == 0 then
        redis.call('ZREM', waiting, id)
        settle(id, f[1], group, int(attempt), 'FAILED', false, {'expired', 'it was not started before it expired', '0'},
          {f[14], f[15], f[8], f[4], false, f[2], f[12]})
        late = late + 1
      elseif not admit(group) then
        -- With room comes a wake-up, see let_go.
        full = true
        break
      else
        attempt = attempt + 1
        user_of[id] = f[8] or ''
        local n, attempt_text, rev = #reply, int(attempt), next_rev(f[14])
        change('ZADD', key.leases, lease_until, id)
        change('ZADD', key.running(group), now, id)
        if f[13] then change('ZREM', key.expiring, id) end
        redis.call('HSET', task, 'status', 'PROCESSING', 'attempt', attempt_text, 'owner', workers[n], 'fence', fence .. ':' .. n,
          'started_at', now_text, 'started_ms', now, 'updated_at', now_text, 'hints', '0', 'rev', rev)
        if attempt > 1 or f[16] or f[17] then redis.call('HDEL', task, 'progress_seq', 'run_at', 'delta_seq') end
        redis.call('ZREM', waiting, id)
        emit_as(id, rev, 'status', 'status', 'PROCESSING', 'attempt', attempt_text, 'worker', workers[n])
        count_start(group, f[4], f[19])
        reply[#reply + 1] = granted(n, id, f, attempt)
      end
    end
  end
  reply[1] = full and 0 or redis.call('ZCARD', waiting)
  if tell == '1' and reply[1] > 0 then wake(group) end
  return reply
end)
