-- Read what a task waits for, all of one moment. It uses shared parts, as transitions do.
--
-- ARGV[4] the task's id (text)
--
-- Returns {status, group, type, delivery, due_ms, position, paused, limits, running, starts_ms, replaced_by}, texts, '' for what it does not
-- have: when it is due if it waits for a time (ms); its place among those that wait in its group (1: the next one); the pause
-- of the group and its limits (JSON); how many of the group run; when the rate lets it start at the earliest, if not now (ms); the id
-- of what has replaced it.
-- Returns {} if there is no such task.

local id = ARGV[4]

local t = read(id, {'status', 'queue', 'type', 'delivery', 'replaced_by'})
if not t.status then return {} end

local group, delivery = t.queue or '', t.delivery or ''
local due_ms = redis.call('ZSCORE', key.delayed, id)
local rank = redis.call('ZRANK', waiting_of(group, delivery), id)
local set, starts_ms = limits[group], ''
if rank and set and set.every then
  local starts, next_start = free_starts(group, set)
  -- Those before it start first.
  if starts <= rank then starts_ms = int(math.ceil(math.max(next_start - set.early + rank * set.every, now_ms))) end
end
return {t.status, group, t.type or '', delivery, due_ms or '', rank and int(rank + 1) or '',
  paused[group] and redis.call('HGET', key.paused, group) or '', set and redis.call('HGET', key.limits, group) or '',
  int(redis.call('ZCARD', key.running(group))), starts_ms, t.replaced_by or ''}
