-- Run a task now that waits for its time or for its next attempt: SCHEDULED | RETRYING -> PENDING. One that waits for a worker, or that
-- runs, stays as it is: a repeated call does no harm.
--
-- ARGV[4] id (text)
--
-- Returns {status before, status after}; {'', ''} if there is no such task, {'replaced', ''} if another task does its work, for whose
-- end it waits. Nothing happens to one of another status.

local id = ARGV[4]

local t = read(id, {'status', 'queue', 'replaced_by'})
local before = t.status or ''
if before ~= 'SCHEDULED' and before ~= 'RETRYING' then return {before, before} end
if t.replaced_by then return {'replaced', ''} end
-- As promote.lua moves what is due.
redis.call('ZREM', key.delayed, id)
count_delayed(t.queue, -1)
redis.call('HSET', key.task(id), 'run_at', now_text())
enqueue(id, false)
return {before, fields(id, 'status')}
