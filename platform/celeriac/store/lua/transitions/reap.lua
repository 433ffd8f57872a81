-- Return what nobody holds any more: expired leases go back to their group (or fail, if their attempts are used up),
-- waiting tasks past their expiry fail, and so do remote tasks past their deadline.
--
-- A server that was away could not be told that a worker lives: after a start of the server (another run id than the
-- one noted), and after a time in which it took no writes, leases are left alone until the grace has passed since the
-- first call. It took no writes if the caller had to wait for it, and nobody else has called meanwhile.
--
-- ARGV[4] most tasks to handle in this call, of each kind (count)   ARGV[5] that grace (ms), '0' for none
-- ARGV[6] '1' = the caller had to wait for the server, else ''
--
-- Returns {returned (count), failed (count), expired (count)}.

local most, grace_ms, waited = ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'
local returned, failed, expired = 0, 0, 0

local settled_ms = 0
if grace_ms > 0 then
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local known_run_id, since_ms, reaped_ms = unpack(redis.call('HMGET', key.server, 'run_id', 'since_ms', 'reaped_ms'))
  local unseen_ms = now_ms - tonumber(reaped_ms or 0)
  if known_run_id ~= run_id or (waited and unseen_ms > grace_ms / 3) then
    since_ms, unseen_ms = now, grace_ms
  end
  if unseen_ms > grace_ms / 6 then
    redis.call('HSET', key.server, 'run_id', run_id, 'since_ms', since_ms, 'reaped_ms', now)
  end
  settled_ms = tonumber(since_ms) + grace_ms
end
local leases = now_ms < settled_ms and {} or redis.call('ZRANGEBYSCORE', key.leases, '-inf', now, 'LIMIT', 0, most)

-- Handle the tasks of an index. One whose record a foreign program has damaged leaves the index: otherwise each call would
-- fail at it, and no other task would be reached.
local function each_of(index, ids, handle)
  for _, id in ipairs(ids) do
    local ok, problem = pcall(handle, id)
    if not ok then
      local text = type(problem) == 'table' and problem.err or tostring(problem)
      local damaged = string.find(text, 'attempt to ', 1, true) or string.find(text, 'WRONGTYPE', 1, true)
      if not damaged then error(problem, 0) end
      redis.call('ZREM', index, id)
    end
  end
end

local function due(index)
  return redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, most)
end

each_of(key.leases, leases, function(id)
  local t = read(id, {'attempts_allowed', 'cancel_requested', 'owner', unpack(FIELDS_OF_AN_END)})
  if t.status ~= 'PROCESSING' then
    redis.call('ZREM', key.leases, id)
  else
    local code = 'worker_lost'
    local message = 'the worker ' .. (t.owner or '?') .. ' died or was cut off during attempt ' .. (t.attempt or '?')
    if t.delivery == 'remote' then code, message = 'worker_disconnected', 'Worker disconnected' end
    if take_back(t, code, message) == 'PENDING' then returned = returned + 1 else failed = failed + 1 end
  end
end)

each_of(key.deadlines, due(key.deadlines), function(id)
  if time_out(id) == 'FAILED' then expired = expired + 1 end
end)

each_of(key.expiring, due(key.expiring), function(id)
  local t = read(id, FIELDS_OF_AN_END)
  redis.call('ZREM', key.expiring, id)
  if t.status and t.status ~= 'PROCESSING' and not is_final(t.status) then
    settle(t, 'FAILED', false, {'expired', 'it was not started before it expired', '0'})
    expired = expired + 1
  end
end)

return {returned, failed, expired}
