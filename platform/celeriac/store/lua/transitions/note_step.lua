-- Keep what the handlers of running attempts have done, so that they need not do it again, and renew the leases of the attempts.
--
-- ARGV[4] lease (ms)   ARGV[5] most entries of a task (count)   ARGV[6] most bytes of a task's entries (count)
-- ARGV[7..] 5 values per entry: 1 id (text)   2 fence of its claim (text)
--   3 'step:NAME', 'sleep:NAME' or 'child:NAME' (see suspension.lua)
--   4 of a step its result (JSON), of a child its id, of a sleep when it is over (ms since the epoch) or '' if 5 says it
--   5 how long a step took, or how long a sleep takes from now (ms), else '0'
--
-- Returns one array per entry: {'kept', 'N BEGAN NOTED VALUE', now (ms since the epoch)}, of the first one if there is one of this
-- name already | {'stale', STATUS} (it is not this claim's any more) | {'entries', limit} | {'bytes', limit}.

local lease_until, most, most_bytes = int(now_ms + tonumber(ARGV[4])), tonumber(ARGV[5]), tonumber(ARGV[6])

return each(7, 5, function(id, fence, name, value, took_ms)
  local t = read(id, {'status', 'fence', 'noted_bytes'})
  if t.status ~= 'PROCESSING' or t.fence ~= fence then return {'stale', t.status or ''} end
  redis.call('ZADD', key.leases, 'XX', lease_until, id)
  local steps = key.steps(id)
  local kept = redis.call('HGET', steps, name)
  if kept and string.sub(kept, 1, 2) ~= '0 ' then return {'kept', kept, now} end
  if not kept and redis.call('HLEN', steps) >= most then return {'entries', int(most)} end

  local kind, began = string.match(name, '^%a+'), now
  if kind == 'sleep' and value == '' then value = int(now_ms + tonumber(took_ms)) end
  local bytes = tonumber(t.noted_bytes or 0) + #name + #value
  if bytes > most_bytes then return {'bytes', int(most_bytes)} end
  if kind == 'step' then
    began = int(now_ms - tonumber(took_ms))
  elseif kind == 'child' then
    local child = read(value, {'status'})
    if child.status then hold(child) end
  end
  local entry = next_noted(id) .. ' ' .. began .. ' ' .. now .. ' ' .. value
  redis.call('HSET', steps, name, entry)
  redis.call('HSET', key.task(id), 'noted_bytes', int(bytes))
  return {'kept', entry, now}
end)
