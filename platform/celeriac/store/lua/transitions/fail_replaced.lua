-- Fail replaced tasks that wait for a part which will not come, because what it follows has failed: SCHEDULED -> FAILED.
--
-- ARGV[4] message (text)   ARGV[5..] ids (texts)
--
-- Returns the ids of those that waited (array of texts).

local message = ARGV[4]
local failed = {}

each(5, 1, function(id)
  local t = read(id, {'replaced_by', unpack(FIELDS_OF_AN_END)})
  if t.status ~= 'SCHEDULED' or not t.replaced_by then return '' end
  -- The caller has told Celery of it, together with the end of what failed.
  settle(t, 'FAILED', false, {'replacement_failed', message, '0'}, true)
  failed[#failed + 1] = id
  return ''
end)
return failed
