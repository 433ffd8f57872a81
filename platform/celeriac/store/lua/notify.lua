-- Follow what a program says of a task that it runs by itself: a record like any other, which no queue delivers.
--
-- ARGV[4] lease of a task that a living process holds (ms)   ARGV[5] silence allowed to one that none holds (ms)
-- ARGV[6] how long a registered one may take to start (ms)   ARGV[7] most that may wait for that in a group (count)
-- ARGV[8..] 10 values per call, '' where absent:
--   1 verb   2 id   3 holder (unique text of the calling process)   4 seq (1.. of the holder, over all its calls)
--   5 name of the process, for people   6..10 by verb:
--   register, open (and start it)  type, group, user_id, metadata (JSON object)    start, let_go  (nothing)
--   progress  percentage, stage, message                        complete  result (JSON)
--   fail      code, message                                     cancel    message
--
-- Whoever spoke of a task last holds it, until it lets it go: then it may be silent for longer.
-- What a task lacks before a move is made up: a report of one that waits starts it, and one that counted as lost
-- (or as expired) goes on. Of a task that the platform runs itself only reports are taken.
--
-- Returns one array per call: {'ok', status} | {'unknown'} | {'ended', status} | {'others', status} (registered
-- for another user, and not ended) | {'full', limit} | {'platform', status} (it ends such a task itself).
-- A repeated call (same holder, same or lower seq) changes nothing and answers {'ok', status}.

local FIRST, WIDTH = 8, 10
local lease_ms, silence_ms, start_ms, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = int(now_ms)

local function present(v) return v ~= '' and v or nil end

-- A new run of `id`: its first, or the one after an end.
local function register(id, f, base)
  local task, status, group = key.task(id), f.status, ARGV[base + 6]
  local user = present(ARGV[base + 7]) or f.user_id or ''
  if status and status ~= 'COMPLETED' and status ~= 'FAILED' and status ~= 'CANCELLED' then
    if f.user_id and f.user_id ~= user then return {'others', status} end
    if not f.user_id and user ~= '' then
      -- It had no user so far: what happens from now on is told to this one.
      redis.call('HSET', task, 'user_id', user)
      user_of[id] = user
      note_active(user, id)
    end
    return {'ok', status}
  end
  if redis.call('ZCARD', key.waiting(group)) >= limit then return {'full', int(limit)} end
  if status then
    if f.user_id and f.user_id ~= user then redis.call('ZREM', key.recent(f.user_id), id) end
    redis.call('PERSIST', key.task_events(id))
    redis.call('DEL', task)
  end
  local rev, seq = next_rev(f.rev), take_seq(1)
  redis.call('HSET', task, 'task_id', id, 'type', ARGV[base + 5], 'queue', group, 'payload', '{}', 'status', 'PENDING',
    'max_retries', '0', 'attempts_allowed', '1', 'attempt', '0', 'created_at', now_text, 'updated_at', now_text,
    'rev', rev, 'delivery', 'none', 'notified', '1', 'fence', ARGV[base + 2], 'progress_seq', ARGV[base + 3],
    'pending_ms', now, 'expires_ms', int(now_ms + start_ms), 'expires_at', rfc3339(now_ms + start_ms))
  if user ~= '' then redis.call('HSET', task, 'user_id', user) end
  if ARGV[base + 8] ~= '' then redis.call('HSET', task, 'metadata', ARGV[base + 8]) end
  redis.call('ZADD', key.waiting(group), waiting_score(0, false, seq), id)
  redis.call('ZADD', key.expiring, int(now_ms + start_ms), id)
  redis.call('SADD', key.groups, group)
  user_of[id] = user
  note_active(user, id)
  emit_as(id, rev, 'status', 'status', 'PENDING', 'attempt', '0', 'type', ARGV[base + 5], 'queue', group)
  count('s' .. SEP .. group .. SEP .. ARGV[base + 5], 1)
  return {'ok', 'PENDING'}
end

-- PENDING, or FAILED because it was silent for too long -> PROCESSING. Returns the number of the attempt.
local function begin(id, f, worker)
  local task, attempt = key.task(id), int(tonumber(f.attempt or 0) + 1)
  if f.status == 'FAILED' then
    redis.call('PERSIST', task)
    redis.call('PERSIST', key.task_events(id))
    redis.call('HDEL', task, 'finished_at', 'error_code', 'error_message', 'error_retryable')
    note_active(user_of[id], id)
  else
    redis.call('ZREM', key.waiting(f.queue), id)
    redis.call('ZREM', key.expiring, id)
  end
  redis.call('ZADD', key.running(f.queue), now, id)
  redis.call('HSET', task, 'status', 'PROCESSING', 'attempt', attempt, 'attempts_allowed', attempt, 'owner', worker,
    'started_at', now_text, 'started_ms', now, 'updated_at', now_text)
  count_start(f.queue, f.type or '', f.status == 'PENDING' and f.pending_ms)
  emit(id, 'status', 'status', 'PROCESSING', 'attempt', attempt, 'worker', worker)
  return attempt
end

local function report(id, attempt, base)
  local task, percentage, stage, message = key.task(id), ARGV[base + 5], ARGV[base + 6], ARGV[base + 7]
  redis.call('HSET', task, 'percentage', percentage, 'stage', stage, 'message_text', message, 'timestamp_ms', now,
    'updated_at', now_text)
  emit(id, 'progress', 'percentage', percentage, 'stage', stage, 'message', message, 'timestamp_ms', now,
    'attempt', attempt)
end

local END_OF = {complete = 'COMPLETED', fail = 'FAILED', cancel = 'CANCELLED'}

local function handle(base)
  local verb, id, holder, seq, worker = ARGV[base], ARGV[base + 1], ARGV[base + 2], ARGV[base + 3], ARGV[base + 4]
  local task = key.task(id)
  local read, f, status
  local function look()
    read = redis.call('HMGET', task, 'status', 'queue', 'attempt', 'user_id', 'notified', 'fence', 'progress_seq',
      'error_code', 'rev', 'type', 'pending_ms')
    f = {status = read[1], queue = read[2], attempt = read[3], user_id = read[4], rev = read[9], type = read[10], pending_ms = tonumber(read[11])}
    status = f.status
    user_of[id] = f.user_id or ''
  end
  look()
  if read[5] and read[6] == holder and tonumber(read[7] or 0) >= tonumber(seq) then return {'ok', status} end
  if verb == 'register' or verb == 'open' then
    local reply = register(id, f, base)
    if verb == 'register' or reply[1] ~= 'ok' then return reply end
    look()
  end
  if not status then return {'unknown'} end

  if not read[5] then
    if verb == 'progress' and status == 'PROCESSING' then
      report(id, f.attempt, base)
      return {'ok', status}
    end
    return {'platform', status}
  end

  if verb == 'let_go' then
    if status == 'PROCESSING' and read[6] == holder then
      redis.call('ZADD', key.leases, 'XX', int(now_ms + silence_ms), id)
    end
    return {'ok', status}
  end

  local lost = status == 'FAILED' and (read[8] == 'worker_lost' or read[8] == 'expired')
  local attempt = f.attempt
  if status == 'PENDING' or lost then
    attempt = begin(id, f, worker)
  elseif status ~= 'PROCESSING' then
    if END_OF[verb] == status then return {'ok', status} end
    return {'ended', status}
  end
  redis.call('HSET', task, 'fence', holder, 'progress_seq', seq, 'owner', worker)
  redis.call('ZADD', key.leases, int(now_ms + lease_ms), id)
  if verb == 'start' or verb == 'open' then return {'ok', 'PROCESSING'} end
  if verb == 'progress' then
    report(id, attempt, base)
    return {'ok', 'PROCESSING'}
  end
  if verb == 'complete' then
    settle(id, 'PROCESSING', f.queue, attempt, 'COMPLETED', ARGV[base + 5])
  elseif verb == 'fail' then
    settle(id, 'PROCESSING', f.queue, attempt, 'FAILED', false, {ARGV[base + 5], ARGV[base + 6], '0'})
  else
    settle(id, 'PROCESSING', f.queue, attempt, 'CANCELLED', false, {'cancelled', ARGV[base + 5], '0'})
  end
  return {'ok', END_OF[verb]}
end

local replies = {}
for base = FIRST, #ARGV, WIDTH do replies[#replies + 1] = handle(base) end
return replies
