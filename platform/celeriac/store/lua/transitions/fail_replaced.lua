-- Fail replaced tasks that wait for a part which will not come, because what it follows has failed: SCHEDULED -> FAILED.
-- One whose attempt has published that, and still runs, fails when it comes to wait: see await_replacement.lua. So may one whose
-- attempt repeats a lost one, by what that had published; it goes on when its own last part comes (replace.lua).
--
-- ARGV[4] message (text)   ARGV[5..] id (text) and how many calls had it before the part that will not come (count), in turn
--
-- Returns the ids of those that waited (array of texts).

local message = ARGV[4]
local failed = {}

each(5, 2, function(id, number)
  local t = read(id, {'replaced_by', 'replacement', 'fence', unpack(FIELDS_OF_AN_END)})
  -- A part of an earlier call is not what the task waits for.
  if tonumber(number) <= tonumber(t.replacement or 0) then return '' end
  if t.status == 'PROCESSING' and t.fence then
    redis.call('HSET', key.task(id), 'unreached', t.fence .. SEP .. message)
    return ''
  end
  if t.status ~= 'SCHEDULED' or not t.replaced_by then return '' end
  -- The caller has told Celery of it, together with the end of what failed.
  settle(t, 'FAILED', false, {'replacement_failed', message, '0'}, true)
  failed[#failed + 1] = id
  return ''
end)
return failed
