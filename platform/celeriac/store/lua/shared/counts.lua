-- Counts of what happened, which metrics and charts are made of (`counts.py` reads them).
--
-- Callers choose the names of groups and types. So a bounded number of names has counts of its own, and what happens in all
-- others is counted as `other` (labels.py makes room). The hash has a limit too: above it, both labels of a new count are
-- `other`, and what has no field even then is not counted.
local SEP = '\31'

do
  local MAX_COUNTS, MAX_LABELS, OTHER = 20000, 200, 'other'

  local function has_counts(labels, label)
    if label == OTHER or redis.call('SISMEMBER', labels, label) == 1 then return true end
    return redis.call('SCARD', labels) < MAX_LABELS and redis.call('SADD', labels, label) == 1
  end

  -- Where a count goes that has no field yet: the field, or the one of `other`.
  local function field_with_room(field)
    local what, group, rest = string.match(field, '^([^\31]*)\31([^\31]*)(.*)$')
    local task_type, status = string.match(rest, '^\31([^\31]*)(.*)$')
    local room = redis.call('HLEN', key.counts) <= MAX_COUNTS
    if not (room and has_counts(key.label_groups, group)) then group = OTHER end
    if not task_type then return what .. SEP .. group end
    if not (room and has_counts(key.label_types, task_type)) then task_type = OTHER end
    return what .. SEP .. group .. SEP .. task_type .. status
  end

  -- Count what happened (see counts.py): the field is a short name and labels, separated by a unit separator.
  function write_count(field, number)
    if redis.call('HINCRBY', key.counts, field, number) ~= number then return end
    local kept = field_with_room(field)
    if kept == field then return end
    redis.call('HDEL', key.counts, field)
    if redis.call('HINCRBY', key.counts, kept, number) == number and redis.call('HLEN', key.counts) > MAX_COUNTS then
      redis.call('HDEL', key.counts, kept)
    end
  end
end
local function count(field, number)
  if not counted then return write_count(field, number) end
  counted[field] = (counted[field] or 0) + number
end

-- Count a duration (ms) as 'w' (waited), 'r' (ran) or 'd' (a firing was late), in the bucket of counts.py that it falls into.
local count_duration
do
  local BUCKETS_MS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000}
  function count_duration(what, labels, ms)
    local bucket, most = 0, #BUCKETS_MS
    while bucket < most and ms > BUCKETS_MS[bucket + 1] do bucket = bucket + 1 end
    count(what .. bucket .. labels, 1)
    count(what .. 's' .. labels, ms)
  end
end

-- Count that an attempt started, and how long its task waited since `pending_ms` (no time, if that is not known).
local function count_started(group, task_type) count('a' .. SEP .. group .. SEP .. task_type, 1) end
local function count_waited(group, pending_ms) count_duration('w', SEP .. group, now_ms - (pending_ms or now_ms)) end
local function count_start(group, task_type, pending_ms)
  count_started(group, task_type)
  count_waited(group, pending_ms)
end

-- Count an attempt that ended and is not the last one: 'y' is to be retried, 'l' lost its worker.
local function count_lost_attempt(what, group, task_type, started_ms)
  local labels = SEP .. group .. SEP .. (task_type or '')
  count(what .. labels, 1)
  if started_ms then count_duration('r', labels, now_ms - started_ms) end
end
