-- Note which remote workers are connected, and to which gateways.
--
-- ARGV[4] how long a gateway counts (ms)   ARGV[5] how long a worker's record counts (ms)
-- ARGV[6..] 6 values per note: 1 gateway   2 group   3 workers of this group that the gateway holds (count)
--   4 worker id, '' for none   5 the worker's facts (JSON array: name, value, ...), '' = it left
--   6 models that are served in this group (JSON array), '' for none
--
-- Returns 'ok' per note.

local until_ms = int(now_ms + tonumber(ARGV[4]))

return each(6, 6, function(base)
  local gateway, group, held = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2])
  local worker, facts, models = ARGV[base + 3], ARGV[base + 4], ARGV[base + 5]
  local gateways = key.gateways(group)
  if held > 0 then
    redis.call('ZADD', gateways, until_ms, gateway)
    redis.call('PEXPIRE', gateways, tonumber(ARGV[4]) * 2)
  else
    redis.call('ZREM', gateways, gateway)
  end
  if worker ~= '' then
    if facts == '' then
      redis.call('DEL', key.worker(worker))
      redis.call('ZREM', key.workers, worker)
    else
      redis.call('HSET', key.worker(worker), 'seen_ms', int(now_ms), unpack(cjson.decode(facts)))
      redis.call('PEXPIRE', key.worker(worker), ARGV[5])
      redis.call('ZADD', key.workers, int(now_ms + tonumber(ARGV[5])), worker)
    end
  end
  if models ~= '' then
    for _, model in ipairs(cjson.decode(models)) do redis.call('ZADD', key.models, until_ms, group .. '/' .. model) end
  end
  return 'ok'
end, function()
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', int(now_ms))
  redis.call('ZREMRANGEBYSCORE', key.models, '-inf', int(now_ms))
end)
