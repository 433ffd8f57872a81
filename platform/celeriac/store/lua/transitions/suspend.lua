-- Suspend a running attempt until all that it waits for is there: PROCESSING -> WAITING. It goes on as the same attempt. If all of it
-- is there by now, nothing changes.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)
-- ARGV[6] what it waits for (JSON array), each {task = id}, {sleep = NAME, until_ms = when it is over (ms since the epoch)} or
--   {signal = NAME, wait = name of this wait, timeout_ms, title, schema (JSON as text), users (array of texts),
--   dropped = the N of a received value that does not fit}, all but `signal` and `wait` may be absent
-- ARGV[7] most tasks that may wait (count)   ARGV[8] most steps of a task (count)
--
-- Returns 'WAITING' (also to a repeated call) | 'CANCELLED' (somebody asked for that) | 'there' | 'full' (too many wait) | 'entries'
-- (no room for the end of a wait) | 'stale:STATUS' (it is not this claim's any more).

local id, fence, items, most, most_steps = ARGV[4], ARGV[5], cjson.decode(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local task, steps, signals = key.task(id), key.steps(id), key.signals(id)

local t = read(id, {'fence', 'cancel_requested', 'moved', unpack(FIELDS_OF_AN_END)})
local moved = 'suspended ' .. fence
if t.moved == moved then return 'WAITING' end
local other = ended_otherwise(t, fence)
if other then return other end

-- Whether a signal is there, or its time was over before.
local function has_come(item)
  local received = redis.call('HGET', signals, item.signal)
  if received and item.dropped and tonumber(string.match(received, '^%d+')) == item.dropped then
    redis.call('HDEL', signals, item.signal)
    received = false
  end
  return received or (item.wait and redis.call('HEXISTS', steps, 'wait:' .. item.wait) == 1)
end

local open, times = {}, false
for _, item in ipairs(items) do
  local there
  if item.task then
    local status = fields(item.task, 'status')
    there = not status or is_final(status)
  elseif item.signal then
    there = has_come(item)
    times = times or (not there and item.timeout_ms)
  else
    there = item.until_ms <= now_ms
  end
  if not there then open[#open + 1] = item end
end
if #open == 0 then return 'there' end
if redis.call('ZCARD', key.suspended) >= most then return 'full' end
if times and redis.call('HLEN', steps) >= most_steps then return 'entries' end

life.write_out(t)
unindex(t)
-- Others of its key may run meanwhile: it may wait for them.
end_turn(t)
suspend(id, t.queue)
local shown, order = {}, take_seq(1)
for _, item in ipairs(open) do
  if item.task then
    listen(id, item.task, 'ended', order)
  else
    shown[#shown + 1] = open_item(t, item)
  end
end
note_time(id)
-- It comes anew when it goes on, also where no ordered rule covered its start.
redis.call('HDEL', task, 'owner', 'fence', 'arrival')
redis.call('HSET', task, 'status', 'WAITING', 'updated_at', now_text(), 'moved', moved,
  'resumes', int(math.max(0, now_ms - tonumber(t.started_ms or now))))
let_others_go()
emit(id, t.user_id, 'status', 'status', 'WAITING', 'attempt', t.attempt, 'waiting_for', '[' .. table.concat(shown, ',') .. ']')
return 'WAITING'
