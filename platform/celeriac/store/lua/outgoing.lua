-- Build the messages of tasks that were taken from the outbox, for a broker other than Redis.
--
-- ARGV[4..] ids
--
-- Returns {group, priority (0..9), envelope (JSON text)} per task that still waits.

local messages = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local f = redis.call('HMGET', key.task(id), 'status', 'type', 'queue', 'priority', 'attempt', 'message', 'payload', 'secret_fields')
  if f[1] == 'PENDING' then
    local priority = tonumber(f[4] or 0)
    local envelope = message_of(id, f[2], f[3], priority, tonumber(f[5] or 0), f[6], f[7], f[8], take_seq(1))
    messages[#messages + 1] = {f[3], priority, envelope}
  end
end
return messages
