-- End remote tasks whose deadline has passed: any status that is not final -> FAILED.
--
-- ARGV[4..] ids (texts)
--
-- Returns one text per task: its status | 'in:MS' while the deadline is still to come | '' (no record, or no deadline).

return each(4, 1, function(id)
  local t = read(id, {'status', 'deadline_ms'})
  if not t.status or not t.deadline_ms then return '' end
  local left_ms = tonumber(t.deadline_ms) - now_ms
  if left_ms > 0 and not is_final(t.status) then return 'in:' .. int(left_ms) end
  return time_out(id)
end)
