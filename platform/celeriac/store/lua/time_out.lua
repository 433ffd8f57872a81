-- End remote tasks whose deadline has passed: any status that is not final -> FAILED.
--
-- ARGV[4..] ids
--
-- Returns one text per task: its status | 'in:MS' while the deadline is still to come | '' (no record, or no deadline).

return each(4, 1, function(base)
  local id = ARGV[base]
  local f = redis.call('HMGET', key.task(id), 'status', 'deadline_ms')
  if not f[1] or not f[2] then return '' end
  local left = tonumber(f[2]) - now_ms
  if left > 0 and f[1] ~= 'COMPLETED' and f[1] ~= 'FAILED' and f[1] ~= 'CANCELLED' then return 'in:' .. int(left) end
  return time_out(id)
end)
