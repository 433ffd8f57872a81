-- Renew a worker's presence and the leases of all that it runs.
--
-- ARGV[4] lease (ms)   ARGV[5] worker id (text)   ARGV[6] how long the presence counts (ms)
-- ARGV[7] facts of the worker (JSON array: name, value, ...), '' = no presence, only leases
-- ARGV[8..] 2 values per running task: 1 id (text)   2 fence of its claim (text)
--
-- Returns one text per task: 'held' | 'cancel' (held, and to be cancelled) | 'lost'.

local lease_ms, worker, presence_ms, facts = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), ARGV[7]
local lease_until = int(now_ms + lease_ms)

if facts ~= '' then
  local running, presence_until = (#ARGV - 7) / 2, int(now_ms + presence_ms)
  redis.call('HSET', key.worker(worker), 'seen_ms', now, 'running', int(running), unpack(cjson.decode(facts)))
  redis.call('PEXPIRE', key.worker(worker), presence_ms)
  redis.call('ZADD', key.workers, presence_until, worker)
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', now)
end

local replies = {}
for base = 8, #ARGV, 2 do
  local id, fence = ARGV[base], ARGV[base + 1]
  local t = read(id, {'status', 'fence', 'cancel_requested'})
  if t.status == 'PROCESSING' and t.fence == fence then
    redis.call('ZADD', key.leases, 'XX', lease_until, id)
    replies[#replies + 1] = t.cancel_requested and 'cancel' or 'held'
  else
    replies[#replies + 1] = 'lost'
  end
end
return replies
