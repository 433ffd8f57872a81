-- Cancel a task: at once while it waits; while it runs, leave a mark and wake its worker.
--
-- ARGV[4] id (text)   ARGV[5] message (text), '' for one that says whether the task has run before
-- ARGV[6] 'at_once' = also while it runs: what its worker still says does not count. 'spare' = not while it runs: this attempt
-- may end, but no other one follows. Else '' or absent
--
-- Returns {status before, status after}; {'', ''} if there is no such task.

local id, message, at_once, spare = ARGV[4], ARGV[5], ARGV[6] == 'at_once', ARGV[6] == 'spare'

local t = read(id, FIELDS_OF_A_CANCELLATION)
local before = t.status
if not before then return {'', ''} end
return {before, cancel_task(t, message, at_once, spare)}
