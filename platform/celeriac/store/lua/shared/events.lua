-- Events: each change of a record is an entry in the task's stream (or in what `life` says instead), in the global one and in its
-- user's feed.

-- How an event is told; each function is described below.
local telling = {}

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

-- Append to the global stream. Returns the entry's id. `rev` counts the changes of the record, this one included: of two states of a
-- task the higher one is the later one. `event` is the id that the event has in the task's stream, false if the entry's own id is it.
function telling.announce(id, rev, event, ...)
  if event then
    return redis.call('XADD', key.events, 'MAXLEN', '~', max_global_events, '*', 'task_id', id, 'rev', rev, 'event', event, 'kind', ...)
  end
  return redis.call('XADD', key.events, 'MAXLEN', '~', max_global_events, '*', 'task_id', id, 'rev', rev, 'kind', ...)
end

-- An event has been announced: tell the feed of the task's user, wake all who follow that, and tell the task's workflow. `user` is the
-- task's user_id, false or '' if it has none.
function telling.spread(id, user, event, kind, ...)
  if user and user ~= '' then
    local feed = key.feed(user)
    redis.call('XADD', feed, 'MAXLEN', '~', max_feed, '*', 'task_id', id, 'event', event, 'kind', kind, ...)
    redis.call('PEXPIRE', feed, feed_ttl_ms)
    redis.call('PUBLISH', feed, '')
  end
  if kind == 'status' then note_status(id, ...) end
end

-- Append an event whose revision the caller has written to the task's stream, the global one and its user's feed. The record is not
-- short. Returns the event's id.
function telling.append(id, user, rev, kind, ...)
  local event = redis.call('XADD', key.task_events(id), 'MAXLEN', '~', max_task_events, '*', 'kind', kind, ...)
  telling.announce(id, rev, event, kind, ...)
  telling.spread(id, user, event, kind, ...)
  return event
end

on_call(function() telling.stored = nil end)

-- Celery's result backend has stored a state of a task that ends now: who waits for the end finds it in the message of that, if it is
-- short.
function telling.with_state(id, state)
  telling.stored = #state <= 65536 and {id, state} or nil
end

-- Wake all who watch a task. The message is 'ID WHAT': the id of the event, and its status or its kind, so that who waits for the end
-- need not look before. After a line end it has the state that Celery has stored of the end (`with_state`).
function telling.wake(id, event, kind, ...)
  local what, stored = kind == 'status' and select(2, ...) or kind, telling.stored
  if stored and stored[1] == id and what == 'COMPLETED' then
    telling.stored = nil
    what = what .. '\n' .. stored[2]
  end
  redis.call('PUBLISH', key.live(id), event .. ' ' .. what)
end

-- Append an event whose revision the caller has written, and wake all who watch the task.
local function emit_as(id, user, rev, kind, ...)
  telling.wake(id, telling.append(id, user, rev, kind, ...), kind, ...)
end

-- Count the record's revision up, append an event and wake all who watch the task.
local function emit(id, user, kind, ...)
  life.write_out({id = id})
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
