-- End a running attempt whose process is gone, without waiting for its lease: back to the front of its group while attempts are
-- left, else FAILED; CANCELLED if somebody asked for that. Nothing happens if another worker has the task by now.
--
-- ARGV[4] id (text)   ARGV[5] the worker whose process it was (text)   ARGV[6] code (text)   ARGV[7] message (text)
-- ARGV[8] '1' = another attempt may follow, else '0'
--
-- Returns {the new status, number of the attempt (count), attempts_allowed (count)} | 'stale:STATUS' (it does not run, or on
-- another worker).

local id, worker, code, message, again = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8] == '1'

local t = read(id, {'owner', 'attempts_allowed', 'cancel_requested', unpack(FIELDS_OF_AN_END)})
if t.status ~= 'PROCESSING' or t.owner ~= worker then return 'stale:' .. (t.status or '') end
if not again then t.attempts_allowed = t.attempt end
t.shown = true
local attempt, allowed = t.attempt, t.attempts_allowed
return {take_back(t, code, message), attempt, allowed}
