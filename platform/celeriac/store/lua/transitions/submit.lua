-- Accept submissions: write each record, its index, its event and its message, or nothing of it.
--
-- ARGV[4] life of an idempotency key (ms)   ARGV[5] most tasks that may wait for a time (count; from 2^53 on, no key refuses a task either)
-- ARGV[6] most known groups that callers made (count)   ARGV[7] most known groups that one caller made (count)
-- ARGV[8] most nodes of a workflow (count)
-- ARGV[9..] 4 values per submission: 1 id (text)   2 payload (JSON object)   3 nonce of this call (text)
--   4 its kind: a JSON array of 17 texts, '' if absent, that most submissions of a type have in common:
--   1 type   2 group   3 priority (0..9)   4 max_retries (count)   5 delay (ms)   6 run_at (ms since the epoch)
--   7 expires_in (ms)   8 expires_at (ms since the epoch)   9 timeout (ms)   10 user_id   11 metadata (JSON object)
--  12 idempotency key (Redis key without key.prefix)                 13 waiting limit of the group (count)
--  14 delivery: '' celery, 'broker', 'external', 'remote'
--  15 further fields of the record (JSON object of texts)
--  16 who makes the group if it is a new one, '' if it needs no room among the known groups
--  17 the Celery message that the record keeps (JSON)
-- Together these are the 20 values of a submission, which plans hold in the order of the arguments of `accept`: id, type, group,
-- payload, 3 to 15 of its kind, nonce, 16 and 17 of its kind.
-- Some of the further fields are orders, which the record does not keep: slot_ms (the moment, in ms since the epoch, that a
-- definition's instance is for: its lateness is counted); for a remote task deadline_in_ms (it fails if it has not ended by
-- then), needs_worker '1' (refuse it if no worker is connected to its group), quiet '1' (wake nobody: the caller claims at
-- once); parents_of (the user whose tasks it may depend on; absent, any). For a node of a workflow: spawned_by (the task that
-- spawns it, to whose workflow it belongs, which begins with it if that task is alone; `node` is its name below that task's node
-- then), numbered '1' (a name that is taken gets #2, #3 and so on), after (what it comes after, for people, as JSON: [[node,
-- condition], ...]; absent, its parents in the workflow), workflow_name (of a workflow that begins with it; absent, its type), optional
-- '1' (it is stored without being a node if it cannot be one). For a call that Celery publishes: follows (the task at whose end it
-- is published: it is a node of the same workflow, after that task's node) and when (which end, absent: completed), in_group and after_group (ids of Celery's groups: its
-- own, and the one that it comes after too), unmet_by and unmet_status (a task that it cannot come after any more, and how that
-- has ended: it is stored and ends). For one with a key of its own (see once.lua): once (kept in the record), on_conflict (absent:
-- 'return', 'reject', 'replace', 'latest'), once_ms (how long the key is held); debounce (kept in the record), debounce_ms (how long after
-- each call it is due), max_delay_ms (how long after the first at most; absent, any time), debounce_first '1' (the payload of the
-- first call stays).
--
-- Returns one value per submission: the status (text) of one that was created under its id, or an array: {'created', id, status}
-- | {'known', id, status} | {'queue_full', limit} | {'schedule_full', limit} | {'no_queue', group} (the key of that name is not a list) | {'no_worker', group} |
-- {'groups_full', limit, 'caller' or 'all'} (the group would be a new one) | {'no_record', id} (its key is not a hash) |
-- {'no_parent', place (from 0)} (there is no such task that it may depend on) | {'no_spawner', id} | {'workflow_full', limit} |
-- {'node_exists', node} | {'deduplicated', id, status} (this task holds the key) | {'duplicate', id, status} (it does, and the submission
-- is refused) | {'debounced', id, status} (this task has been moved) |
-- {'key_full', rule, limit, key or user, seconds after which there may be room}.
-- A repeated call (same id, same nonce: the reply was lost) answers 'created' again.

local FIRST, WIDTH = 9, 4
intake.idempotency_ms, intake.max_scheduled, intake.max_groups, intake.max_made, intake.max_nodes =
  ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local ids = {}
for base = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[base] end
begin_intake(ids)

local function take_in(id, payload, nonce, kind)
  local k = kind_of(kind)
  local answer = accept(id, k[1], k[2], payload, k[3], k[4], k[5], k[6], k[7], k[8], k[9], k[10], k[11], k[12], k[13], k[14], k[15],
    nonce, k[16], k[17])
  if answer[1] == 'created' and answer[2] == id then return answer[3] end
  return answer
end

return each(FIRST, WIDTH, take_in)
