-- Claim the next tasks of groups for remote workers: PENDING -> PROCESSING, priority first, then arrival.
--
-- ARGV[4] lease (ms)
-- ARGV[5..] 6 values per call: 1 group (text)   2 worker ids (JSON array of texts), one per task that may be given
--   3 gateway (unique text of the process)   4 number of the call (count, goes up within the process)
--   5 fence (text): that of the n-th worker is this one, ':' and n   6 '1' = wake other gateways if tasks are left, else '0'
--
-- Returns one array per call: {tasks left waiting that may start (count), then per granted task {n (place of its worker, from 1),
-- id, ms until its deadline|false, reply_to|false, then as claim.lua: type, group, payload (JSON), attempt, max_retries,
-- attempts_allowed, user_id|false, metadata|false, timeout_ms|false, original_file_path|false, depends_on|false, false,
-- false, workflow_id|false, node|false, noted|false, ms that it has run before|false, key|false}}.
-- A repeated call (its reply was lost) gets what it was granted before and still holds.

local lease_ms = tonumber(ARGV[4])
local lease_until = int(now_ms + lease_ms)

-- FIELDS_OF_A_START, what a worker is told, and what is decided by here.
local FIELDS = {'status', 'queue', 'type', 'attempt', 'rev', 'user_id', 'expires_ms', 'run_at', 'pending_ms', 'payload',
  'max_retries', 'attempts_allowed', 'metadata', 'timeout_ms', 'delivery', 'original_file_path', 'fence', 'deadline_ms',
  'reply_to', 'depends_on', 'workflow_id', 'node', 'noted', 'resumes', 'key', 'cost', 'priority'}

-- Tasks that are past their time, or that a rule holds, of which one call frees the index at most (and some of the page that it
-- reads).
local MOST_PASSED = 200

local function granted(n, t)
  local left = t.deadline_ms and int(math.max(tonumber(t.deadline_ms) - now_ms, 0))
  return {n, t.id, left, t.reply_to, t.type, t.queue, t.payload, t.attempt, t.max_retries, t.attempts_allowed, t.user_id,
    t.metadata, t.timeout_ms, t.original_file_path, t.depends_on, false, false, t.workflow_id, t.node, t.noted, t.resumes, t.key}
end

-- What a call was granted, found by its fence among all that runs: only for repeated calls.
local function granted_before(group, fence)
  local reply = {}
  for _, id in ipairs(redis.call('ZRANGE', key.running(group), 0, -1)) do
    local t = read(id, FIELDS)
    if t.status == 'PROCESSING' and t.fence and string.sub(t.fence, 1, #fence + 1) == fence .. ':' then
      reply[#reply + 1] = granted(tonumber(string.sub(t.fence, #fence + 2)), t)
      -- The worker that holds it may not have renewed it yet.
      change('ZADD', key.leases, lease_until, id)
    end
  end
  return reply
end

-- End a waiting task that is too late to start; returns whether it was.
local function ended_late(t)
  if t.deadline_ms and tonumber(t.deadline_ms) <= now_ms then
    time_out(t.id)
  elseif t.expires_ms and tonumber(t.expires_ms) <= now_ms and tonumber(t.attempt or 0) == 0 then
    settle(read(t.id, FIELDS_OF_AN_END), 'FAILED', false, {'expired', 'it was not started before it expired', '0'})
  else
    return false
  end
  return true
end

return each(5, 6, function(group, offered, gateway, number, fence, tell)
  local workers, waiting = cjson.decode(offered), key.remote(group)
  if tonumber(number) <= tonumber(redis.call('GET', key.granted(gateway)) or 0) then
    local before = granted_before(group, fence)
    table.insert(before, 1, paused[group] and 0 or redis.call('ZCARD', waiting))
    return before
  end
  redis.call('SET', key.granted(gateway), number, 'PX', 600000)

  -- The group goes on with a wake-up, see resume.lua.
  if paused[group] then return {0} end
  local reply, passed = {0}, 0
  -- Many that are too late hold nobody up for long: the gateway asks again while tasks are left, and reapers see to them.
  while #reply <= #workers and passed < MOST_PASSED do
    local ids = redis.call('ZRANGE', waiting, 0, #workers - #reply)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local t, n = read(id, FIELDS), #reply
      if t.status ~= 'PENDING' or t.delivery ~= 'remote' then
        redis.call('ZREM', waiting, id)
      elseif ended_late(t) then
        redis.call('ZREM', waiting, id)
        passed = passed + 1
      elseif not none_held() and not admit(t) then
        -- With room comes a wake-up, see let_go.
        redis.call('ZREM', waiting, id)
        passed = passed + 1
      else
        redis.call('ZREM', waiting, id)
        start(t, workers[n], lease_until, 'fence', fence .. ':' .. n, 'hints', '0')
        reply[n + 1] = granted(n, t)
      end
    end
  end
  reply[1] = redis.call('ZCARD', waiting)
  if tell == '1' and reply[1] > 0 then wake(group) end
  return reply
end, nil, true)
