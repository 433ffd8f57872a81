-- Renew a worker's presence and the leases of all that it runs.
--
-- ARGV[4] lease (ms)   ARGV[5] worker id   ARGV[6] how long the presence counts (ms)
-- ARGV[7] facts of the worker (JSON array: name, value, ...), '' = no presence, only leases
-- ARGV[8..] 2 values per running task: 1 id   2 fence
--
-- Returns one text per task: 'held' | 'cancel' (held, and to be cancelled) | 'lost'.

local lease_ms, worker, presence_ms = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
if ARGV[7] ~= '' then
  redis.call('HSET', key.worker(worker), 'seen_ms', int(now_ms), 'running', int((#ARGV - 7) / 2), unpack(cjson.decode(ARGV[7])))
  redis.call('PEXPIRE', key.worker(worker), presence_ms)
  redis.call('ZADD', key.workers, int(now_ms + presence_ms), worker)
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', int(now_ms))
end

local replies = {}
for base = 8, #ARGV, 2 do
  local f = redis.call('HMGET', key.task(ARGV[base]), 'status', 'fence', 'cancel_requested')
  if f[1] == 'PROCESSING' and f[2] == ARGV[base + 1] then
    redis.call('ZADD', key.leases, 'XX', int(now_ms + lease_ms), ARGV[base])
    replies[#replies + 1] = f[3] and 'cancel' or 'held'
  else
    replies[#replies + 1] = 'lost'
  end
end
return replies
