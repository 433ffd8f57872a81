-- End a running attempt that was stopped because of a cancellation: PROCESSING -> CANCELLED.
--
-- ARGV[4] id   ARGV[5] fence   ARGV[6] message
--
-- Returns 'ok' (also when this claim was cancelled before) | 'stale:STATUS'.

local f = redis.call('HMGET', key.task(ARGV[4]), 'status', 'fence', 'queue', 'attempt')
if f[2] ~= ARGV[5] or (f[1] ~= 'PROCESSING' and f[1] ~= 'CANCELLED') then return 'stale:' .. (f[1] or '') end
if f[1] == 'PROCESSING' then settle(ARGV[4], f[1], f[3], f[4], 'CANCELLED', false, {'cancelled', ARGV[6], '0'}) end
return 'ok'
