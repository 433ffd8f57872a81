-- Take running tasks from a remote worker that vanished: PROCESSING -> PENDING while attempts are left, else FAILED.
--
-- ARGV[4..] 2 values per task: 1 id (text)   2 fence of its claim (text)
--
-- Returns one text per task: the new status | 'stale:STATUS' (it is not this claim's any more).

return each(4, 2, function(id, fence)
  local t = read(id, {'fence', 'attempts_allowed', 'cancel_requested', unpack(FIELDS_OF_AN_END)})
  if t.status ~= 'PROCESSING' or t.fence ~= fence then return 'stale:' .. (t.status or '') end
  return take_back(t, 'worker_disconnected', 'Worker disconnected')
end)
