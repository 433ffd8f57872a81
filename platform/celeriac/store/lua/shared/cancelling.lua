-- Cancelling a task: at once while it waits; while it runs, leave a mark and wake its worker.

-- What `cancel_task` looks at.
local FIELDS_OF_A_CANCELLATION = {'cancel_requested', unpack(FIELDS_OF_AN_END)}

-- Cancel a task. `message` (text): '' for one that says whether the task has run before. `at_once`: also while it runs, whatever its
-- worker still says. `spare`: not while it runs; the attempt may end, but no other one follows. `t`: FIELDS_OF_A_CANCELLATION.
-- Returns its status afterwards.
local function cancel_task(t, message, at_once, spare)
  local id, status = t.id, t.status
  if status == 'PROCESSING' and spare then
    redis.call('HDEL', key.task(id), 'next_call')
    redis.call('HSET', key.task(id), 'revoked', '1')
    return status
  elseif status == 'PROCESSING' then
    if not t.cancel_requested then
      life.write_out(t)
      redis.call('HSET', key.task(id), 'cancel_requested', now_text(), 'updated_at', now_text())
    end
    redis.call('HDEL', key.task(id), 'next_call')
    redis.call('PUBLISH', key.cancels, id)
    if not at_once then return status end
    settle(t, 'CANCELLED', false, {'cancelled', message == '' and 'cancelled while it ran' or message, '0'})
    return 'CANCELLED'
  elseif status == 'SCHEDULED' or status == 'PENDING' or status == 'RETRYING' or status == 'WAITING' then
    if t.delivery == 'external' then redis.call('LREM', key.external, 0, id) end
    if message == '' then
      local ran = (tonumber(t.attempt) or 0) > 0
      message = not ran and 'cancelled before it ran' or status == 'WAITING' and 'cancelled while it waited'
        or 'cancelled while it waited for its next attempt'
    end
    settle(t, 'CANCELLED', false, {'cancelled', message, '0'})
    return 'CANCELLED'
  end
  return status
end
