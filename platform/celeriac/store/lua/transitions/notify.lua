-- Follow what a program says of a task that it runs by itself: a record like any other, which no queue delivers.
--
-- ARGV[4] lease of a task that a living process holds (ms)   ARGV[5] silence allowed to a task that no process holds (ms)
-- ARGV[6] how long a registered task may take to start (ms)   ARGV[7] most tasks that may wait for that in a group (count)
-- ARGV[8..] 10 values per call, '' if absent:
--   1 verb   2 id (text)   3 holder (unique text of the calling process)   4 seq (count, from 1, over all calls of the holder)
--   5 name of the process, for people   6..10 by verb:
--   register, open (and start it)  type, group, user_id, metadata (JSON object)    start, let_go  (nothing)
--   progress  percentage, stage, message                        complete  result (JSON)
--   fail      code, message                                     cancel    message
--
-- The process that spoke of a task last holds it, until it lets it go: then the task may be silent for longer.
-- A move that a task lacks is made up: a report of a task that waits starts it, and a task that counted as lost (or as
-- expired) continues. A task that the platform runs itself takes reports only.
--
-- Returns one array per call: {'ok', status} | {'unknown'} | {'ended', status} | {'others', status} (registered
-- for another user, and not ended) | {'full', limit} | {'platform', status} (it ends such a task itself).
-- A repeated call (same holder, same or lower seq) changes nothing and answers {'ok', status}.

local FIRST, WIDTH = 8, 10
local lease_ms, silence_ms, start_ms, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- FIELDS_OF_A_START, FIELDS_OF_AN_END and what is decided by here.
local FIELDS = {'notified', 'fence', 'progress_seq', 'error_code', 'expires_ms', 'run_at', 'pending_ms', 'resumes',
  unpack(FIELDS_OF_AN_END)}

-- A new run of `id`: its first, or the one after an end.
local function register(t, holder, seq, task_type, group, user, metadata)
  local id, status = t.id, t.status
  local task, owner = key.task(id), t.user_id
  if user == '' then user = owner or '' end
  if status and not is_final(status) then
    if owner and owner ~= user then return {'others', status} end
    if not owner and user ~= '' then
      -- It had no user so far: what happens from now on is told to this one.
      redis.call('HSET', task, 'user_id', user)
      note_active(user, id)
    end
    return {'ok', status}
  end
  if redis.call('ZCARD', key.waiting(group)) >= limit then return {'full', int(limit)} end
  if status then
    if owner and owner ~= user then redis.call('ZREM', key.recent(owner), id) end
    life.write_out(t)
    redis.call('PERSIST', key.task_events(id))
    redis.call('DEL', task)
  end
  local rev, expires = next_rev(t.rev), int(now_ms + start_ms)
  redis.call('HSET', task, 'task_id', id, 'type', task_type, 'queue', group, 'payload', '{}', 'status', 'PENDING',
    'max_retries', '0', 'attempts_allowed', '1', 'attempt', '0', 'created_at', now_text(), 'updated_at', now_text(),
    'rev', rev, 'delivery', 'none', 'notified', '1', 'fence', holder, 'progress_seq', seq,
    'pending_ms', now, 'expires_ms', expires, 'expires_at', rfc3339(now_ms + start_ms))
  if user ~= '' then redis.call('HSET', task, 'user_id', user) end
  if metadata ~= '' then redis.call('HSET', task, 'metadata', metadata) end
  redis.call('ZADD', key.waiting(group), waiting_score(0, false, take_seq(1)), id)
  redis.call('ZADD', key.expiring, expires, id)
  note_group(group)
  note_active(user, id)
  emit_as(id, user, rev, 'status', 'status', 'PENDING', 'attempt', '0', 'type', task_type, 'queue', group)
  count('s' .. SEP .. group .. SEP .. task_type, 1)
  return {'ok', 'PENDING'}
end

-- PENDING, or FAILED because it was silent for too long -> PROCESSING.
local function begin(t, worker, lease_until)
  local id = t.id
  if t.status == 'FAILED' then
    redis.call('PERSIST', key.task(id))
    redis.call('PERSIST', key.task_events(id))
    redis.call('HDEL', key.task(id), 'finished_at', 'error_code', 'error_message', 'error_retryable')
    note_active(t.user_id, id)
  else
    redis.call('ZREM', key.waiting(t.queue), id)
  end
  start(t, worker, lease_until)
  redis.call('HSET', key.task(id), 'attempts_allowed', t.attempt)
end

local function report(t, percentage, stage, message)
  redis.call('HSET', key.task(t.id), 'percentage', percentage, 'stage', stage, 'message_text', message, 'timestamp_ms', now,
    'updated_at', now_text())
  emit(t.id, t.user_id, 'progress', 'percentage', percentage, 'stage', stage, 'message', message, 'timestamp_ms', now,
    'attempt', t.attempt)
end

local END_OF = {complete = 'COMPLETED', fail = 'FAILED', cancel = 'CANCELLED'}

-- Make the move that a call asks for of a task which runs, or may be made to run; `a`, `b` and `c` depend on the verb.
local function move(t, verb, holder, seq, worker, a, b, c)
  local lease_until = int(now_ms + lease_ms)
  local lost = t.status == 'FAILED' and (t.error_code == 'worker_lost' or t.error_code == 'expired')
  if t.status == 'PENDING' or lost then
    begin(t, worker, lease_until)
  elseif t.status ~= 'PROCESSING' then
    if END_OF[verb] == t.status then return {'ok', t.status} end
    return {'ended', t.status}
  end
  redis.call('HSET', key.task(t.id), 'fence', holder, 'progress_seq', seq, 'owner', worker)
  redis.call('ZADD', key.leases, lease_until, t.id)
  if verb == 'start' or verb == 'open' then return {'ok', 'PROCESSING'} end
  if verb == 'progress' then
    report(t, a, b, c)
    return {'ok', 'PROCESSING'}
  end
  if verb == 'complete' then
    settle(t, 'COMPLETED', a, nil, true)
  elseif verb == 'fail' then
    settle(t, 'FAILED', false, {a, b, '0'}, true)
  else
    settle(t, 'CANCELLED', false, {'cancelled', a, '0'}, true)
  end
  return {'ok', END_OF[verb]}
end

local function handle(verb, id, holder, seq, worker, a, b, c, d)
  local t = read(id, FIELDS)
  if t.notified and t.fence == holder and tonumber(t.progress_seq or 0) >= tonumber(seq) then return {'ok', t.status} end
  if verb == 'register' or verb == 'open' then
    local reply = register(t, holder, seq, a, b, c, d)
    if verb == 'register' or reply[1] ~= 'ok' then return reply end
    t = read(id, FIELDS)
  end
  if not t.status then return {'unknown'} end

  if not t.notified then
    if verb == 'progress' and t.status == 'PROCESSING' then
      report(t, a, b, c)
      return {'ok', t.status}
    end
    return {'platform', t.status}
  end

  if verb == 'let_go' then
    if t.status == 'PROCESSING' and t.fence == holder then
      redis.call('ZADD', key.leases, 'XX', int(now_ms + silence_ms), id)
    end
    return {'ok', t.status}
  end
  return move(t, verb, holder, seq, worker, a, b, c)
end

-- Not a batch of `each`: one call of a program may take back what the call before it did.
local replies = {}
for base = FIRST, #ARGV, WIDTH do replies[#replies + 1] = handle(unpack(ARGV, base, base + WIDTH - 1)) end
return replies
