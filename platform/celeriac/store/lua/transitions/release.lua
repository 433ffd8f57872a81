-- Give a running task back unharmed (warm shutdown): PROCESSING -> PENDING at the front; the attempt does not count. One that has
-- kept steps or signals goes on as the same attempt.
--
-- ARGV[4] id (text)   ARGV[5] fence of its claim (text)
--
-- Returns the new status | 'stale:STATUS' (it is not this claim's any more). A repeated call gets the same answer.

local id, fence = ARGV[4], ARGV[5]

local t = read(id, FIELDS_OF_A_RETURN)
if t.moved == fence then return 'PENDING' end
local other = ended_otherwise(t, fence)
if other then return other end
return give_back(t, fence)
