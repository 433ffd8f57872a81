-- Note which remote workers are connected, and to which gateways.
--
-- ARGV[4] how long a gateway counts (ms)   ARGV[5] how long a worker's record counts (ms)
-- ARGV[6..] 6 values per note: 1 gateway (text)   2 group (text)   3 workers of this group that the gateway holds (count)
--   4 worker id (text), '' for none   5 the worker's facts (JSON array: name, value, ...), '' = it left
--   6 models that are served in this group (JSON array of texts), '' for none
--
-- Returns 'ok' per note.

local gateway_ms, worker_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local gateway_until, worker_until = int(now_ms + gateway_ms), int(now_ms + worker_ms)

-- Most models of all groups: those that are announced beyond are left out.
local MOST_MODELS = 20000

-- A group without workers serves nothing: do not wait until its models lapse. An entry without a model says that the group has
-- workers.
local function drop_models(group)
  local begins = group .. '/'
  for _, model in ipairs(redis.call('ZRANGE', key.models, 0, -1)) do
    if string.sub(model, 1, #begins) == begins then redis.call('ZREM', key.models, model) end
  end
end

return each(6, 6, function(gateway, group, held, worker, facts, models)
  local gateways = key.gateways(group)
  if tonumber(held) > 0 then
    redis.call('ZADD', gateways, gateway_until, gateway)
    redis.call('PEXPIRE', gateways, gateway_ms * 2)
    redis.call('ZADD', key.models, gateway_until, group .. '/')
  elseif redis.call('ZREM', gateways, gateway) == 1 and redis.call('ZCOUNT', gateways, int(now_ms + 1), '+inf') == 0 then
    drop_models(group)
  end
  if worker ~= '' then
    if facts == '' then
      redis.call('DEL', key.worker(worker))
      redis.call('ZREM', key.workers, worker)
    else
      redis.call('HSET', key.worker(worker), 'seen_ms', now, unpack(cjson.decode(facts)))
      redis.call('PEXPIRE', key.worker(worker), worker_ms)
      redis.call('ZADD', key.workers, worker_until, worker)
    end
  end
  if models ~= '' then
    local full = redis.call('ZCARD', key.models) >= MOST_MODELS
    for _, model in ipairs(cjson.decode(models)) do
      if full then
        redis.call('ZADD', key.models, 'XX', gateway_until, group .. '/' .. model)
      else
        redis.call('ZADD', key.models, gateway_until, group .. '/' .. model)
      end
    end
  end
  return 'ok'
end, function()
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', now)
  redis.call('ZREMRANGEBYSCORE', key.models, '-inf', now)
end)
