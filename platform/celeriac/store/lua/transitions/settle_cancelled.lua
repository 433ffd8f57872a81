-- End a running attempt that was stopped because of a cancellation: PROCESSING -> CANCELLED.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)   ARGV[6] message (text)
--
-- Returns 'ok' | 'before' (this claim was cancelled before) | 'stale:STATUS' (it is not this claim's any more).

local id, fence, message = ARGV[4], ARGV[5], ARGV[6]

local t = read(id, {'fence', unpack(FIELDS_OF_AN_END)})
if t.fence ~= fence or (t.status ~= 'PROCESSING' and t.status ~= 'CANCELLED') then return 'stale:' .. (t.status or '') end
if t.status == 'CANCELLED' then return 'before' end
t.shown = true
settle(t, 'CANCELLED', false, {'cancelled', message, '0'})
return 'ok'
