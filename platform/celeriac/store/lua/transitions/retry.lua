-- Run a failed or cancelled task again: FAILED | CANCELLED -> PENDING with its attempts granted anew, or WAITING while tasks that it
-- depends on have not ended. The ends that they have come to count as what it was to wait for. What it has kept stays; from one of its
-- steps on it can be forgotten, for a completed task too.
-- One whose record has left the store is put back first, from what the caller holds of it.
--
-- ARGV[4] id (text)   ARGV[5] waiting limit of its group (count)   ARGV[6] nonce of this call (text)
-- ARGV[7] another payload (JSON object), '' for the one it has
-- ARGV[8] the revision that the record must be at (count), '' for any
-- ARGV[9] the record to put back (JSON object of texts), '' for none
-- ARGV[10] paths of the secrets in that other payload (separated by line breaks), '' for those that the record has
-- ARGV[11] who makes its group if that is not known any more (text), '' if it needs no room among the known groups
-- ARGV[12] most known groups that callers made (count)   ARGV[13] most known groups that one caller made (count)
-- ARGV[14] name of the step from which on all is forgotten (text), '' for none
-- ARGV[15] the steps to put back with the record (JSON object of texts, as key.steps has them), '' for none
--
-- Returns the status before | 'queue_full' | {'key_full', ...} (as submit.lua) | 'changed' (it has another revision) | 'celery' (plain Celery published it, and its
-- arguments are in its message: it takes no other payload) | 'no_step' (it has kept no step of that name) | 'notified' (a program
-- of its own ran it, see notify.lua) | 'incomplete' (a call in a chord of Celery's that never got its arguments) | '' (no
-- such task) | 'duplicate ID' (that task holds the key that this one would hold again, see once.lua) | 'groups_full all' | 'groups_full caller' (its group would be a new one). A repeated call (same nonce: the reply was lost) answers 'FAILED', and both 'waits' if the task is WAITING.

local id, waiting_limit, nonce, payload = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local rev, record, secret_fields = ARGV[8], ARGV[9], ARGV[10]
local maker, max_groups, max_made, from_step, old_steps = ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14], ARGV[15]
local task, steps, signals = key.task(id), key.steps(id), key.signals(id)

-- The number of something that a task has kept.
local function number_of(text) return tonumber(string.match(text, '^%d+')) end

-- Forget what was kept with this number or a later one. A child that runs again gets another id.
local function forget_from(first)
  local bytes = 0
  for name, text in pairs(pairs_of(steps)) do
    local number = number_of(text)
    if number >= first and string.sub(name, 1, 6) == 'child:' then
      redis.call('HSET', steps, name, '0' .. string.match(text, '^%d+(.*)$'))
    elseif number >= first then
      redis.call('HDEL', steps, name)
    else
      bytes = bytes + #name + #string.match(text, '^%d+ %d+ %d+ (.*)$')
    end
  end
  for name, text in pairs(pairs_of(signals)) do
    if number_of(text) >= first then redis.call('HDEL', signals, name) end
  end
  redis.call('HSET', task, 'noted_bytes', int(bytes))
end

local t = read(id, FIELDS_OF_A_RETRY)
local kept = not t.status and record ~= '' and cjson.decode(record)
local kept_steps = kept and old_steps ~= '' and cjson.decode(old_steps) or {}
if kept then
  kept.id, kept.moved = id, nil
  t = kept
end
local status = t.status
if not status then return '' end
if t.moved == nonce then return status == 'WAITING' and 'waits' or 'FAILED' end
if rev ~= '' and tonumber(t.rev or 0) ~= tonumber(rev) then return 'changed' end
if status ~= 'FAILED' and status ~= 'CANCELLED' and not (status == 'COMPLETED' and from_step ~= '') then return status end
local step = from_step ~= '' and (kept_steps['step:' .. from_step] or redis.call('HGET', steps, 'step:' .. from_step))
if from_step ~= '' and not step then return 'no_step' end
if payload ~= '' and t.message then return 'celery' end
if t.notified then return 'notified' end
if t.error_code == 'dependency_failed' and not t.depends_on then return 'incomplete' end
local holder = t.once and holding.other_holder(t)
if holder then return 'duplicate ' .. holder end
if count_waiting(t.queue, t.delivery) >= waiting_limit then return 'queue_full' end
local full = not none_held() and answer_of_full_key(t)
if full then return full end
local no_room = answer_of_no_room(t.queue, maker, max_groups, max_made)
if no_room then return 'groups_full ' .. no_room[3] end

if kept then
  for name, value in pairs(kept) do
    if name ~= 'id' then redis.call('HSET', task, name, value) end
  end
  local noted, bytes = 0, 0
  for name, text in pairs(kept_steps) do
    redis.call('HSET', steps, name, text)
    noted, bytes = math.max(noted, number_of(text)), bytes + #name + #string.match(text, '^%d+ %d+ %d+ (.*)$')
  end
  if noted > 0 then
    redis.call('HSET', task, 'noted', int(noted), 'noted_bytes', int(bytes))
    t.noted = int(noted)
  end
end
if payload ~= '' then redis.call('HSET', task, 'payload', payload) end
if secret_fields ~= '' then redis.call('HSET', task, 'secret_fields', secret_fields) end
if step then forget_from(number_of(step)) end
return run_again(t, nonce, maker) == 'WAITING' and 'waits' or status
