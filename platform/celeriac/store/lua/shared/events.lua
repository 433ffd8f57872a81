-- Events: each change of a record is an entry in the task's stream, in the global one and in its user's feed.

-- Tell a user's feed of an event, and wake all who follow the feed.
local function tell(user, id, event, kind, ...)
  local feed = key.feed(user)
  redis.call('XADD', feed, 'MAXLEN', '~', max_feed, '*', 'task_id', id, 'event', event, 'kind', kind, ...)
  redis.call('PEXPIRE', feed, feed_ttl_ms)
  redis.call('PUBLISH', feed, '')
end

-- A user's task has not ended (yet, or again).
local function note_active(user, id)
  if not user or user == '' then return end
  redis.call('ZADD', key.active(user), 'NX', int(now_ms), id)
  redis.call('ZREM', key.recent(user), id)
end

-- A user's task has ended, and its record stays for `kept_ms`.
local function note_ended(user, id, kept_ms)
  if not user or user == '' then return end
  local recent = key.recent(user)
  redis.call('ZREM', key.active(user), id)
  redis.call('ZADD', recent, int(now_ms), id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -max_recent - 1)
  if redis.call('PTTL', recent) < tonumber(kept_ms) then redis.call('PEXPIRE', recent, kept_ms) end
end

-- Append to the task's stream, the global one and its user's feed. Returns the entry's id in the task's stream.
-- `user` is the task's user_id, false or '' if it has none. `rev` counts the changes of the record, this one included: of two
-- states of a task the higher one is the later one. The global entry carries it, and as `event` the id that the event has in
-- the task's stream.
local function append(id, user, rev, kind, ...)
  local entry = redis.call('XADD', key.task_events(id), 'MAXLEN', '~', max_task_events, '*', 'kind', kind, ...)
  redis.call('XADD', key.events, 'MAXLEN', '~', max_global_events, '*', 'task_id', id, 'rev', rev, 'event', entry, 'kind', kind, ...)
  if user and user ~= '' then tell(user, id, entry, kind, ...) end
  if kind == 'status' then note_status(id, ...) end
  return entry
end

-- Append an event whose revision the caller has written, and wake all who watch the task.
local function emit_as(id, user, rev, kind, ...)
  redis.call('PUBLISH', key.live(id), append(id, user, rev, kind, ...))
end

-- Count the record's revision up, append an event and wake all who watch the task.
local function emit(id, user, kind, ...)
  emit_as(id, user, redis.call('HINCRBY', key.task(id), 'rev', 1), kind, ...)
end

-- Say in a task's log why an attempt failed for a worker that cannot say it.
local function log_failure(id, attempt, level, code, message)
  if max_log == '0' then return end
  redis.call('HSETNX', key.task(id), 'log_seq', '0 -')
  redis.call('XADD', key.log(id), 'MAXLEN', max_log, '*', 'level', level, 'message', 'attempt failed',
    'data', cjson.encode({code = code, error = message}), 'timestamp_ms', int(now_ms), 'attempt', attempt)
  redis.call('PUBLISH', key.live_log(id), '')
end
