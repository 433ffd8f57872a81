-- The arguments that all transitions share, and every key (the store's `keys.py` has the same ones; a test compares them).
--
-- ARGV[1] seven limits, joined by commas: events to keep of a task (count), messages to keep of a user's feed (count), life
--         of a feed after its last message (ms), ended tasks to keep in a user's index (count), lines to keep of a task's
--         log (count), how long Celery may be told of an end (ms), events to keep of a workflow (count)
-- ARGV[2] entries to keep in the global stream (count)
-- ARGV[3] retention (ms) of an ended task whose record has none of its own
-- ARGV[4..] see each script
--
-- Keys are built here from ids, so the scripts declare no KEYS. That rules out a cluster of several shards, as kombu's transport does.
--
-- With a key prefix, `scripts.py` writes it into this file: as `key.prefix`, and in front of each text that begins a key. What
-- is a key already when it comes here, and the name of a group's list, get it from `key.prefix`.

local max_task_events, max_feed, feed_ttl_ms, max_recent, max_log, tell_within_ms, max_workflow_events
local max_global_events, retention_ms
do
  -- What the limits were read from.
  local limits
  on_call(function()
    if ARGV[1] ~= limits then
      max_task_events, max_feed, feed_ttl_ms, max_recent, max_log, tell_within_ms, max_workflow_events =
        string.match(ARGV[1], '^(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+)$')
      limits = ARGV[1]
    end
    max_global_events, retention_ms = ARGV[2], tonumber(ARGV[3])
  end)
end

local key = {
  prefix = '',
  events = 'celeriac:events',
  seq = 'celeriac:seq',
  groups = 'celeriac:groups',
  awake = 'celeriac:awake',
  makers = 'celeriac:makers',
  made = 'celeriac:made',
  leases = 'celeriac:leases',
  delayed = 'celeriac:delayed',
  expiring = 'celeriac:expiring',
  workers = 'celeriac:workers',
  server = 'celeriac:server',
  companions = 'celeriac:companions',
  types = 'celeriac:types',
  ledger = 'celeriac:ledger',
  ledger_resync = 'celeriac:ledger:resync',
  cancels = 'celeriac:cancels',
  drains = 'celeriac:drains',
  ends = 'celeriac:ends',
  external = 'task:pending',
  outbox = 'celeriac:outbox',
  watched = 'celeriac:external',
  counts = 'celeriac:counts',
  label_groups = 'celeriac:labels:groups',
  label_types = 'celeriac:labels:types',
  deadlines = 'celeriac:deadlines',
  models = 'celeriac:models',
  mirror = 'celeriac:mirror',
  owners = 'celeriac:owners',
  unknown = 'celeriac:unknown',
  outboxes = 'celeriac:outboxes',
  paused = 'celeriac:paused',
  resuming = 'celeriac:resuming',
  rules = 'celeriac:rules',
  rules_of = 'celeriac:rules:of',
  limits_due = 'celeriac:limits:due',
  closed = 'celeriac:closed',
  untold = 'celeriac:untold',
  suspended = 'celeriac:suspended',
  releasing = 'celeriac:releasing',
  steering = 'celeriac:steering',
  waits = 'celeriac:waits',
}
function key.task(id) return 'task:' .. id end
function key.task_events(id) return 'celeriac:events:' .. id end
function key.live(id) return 'celeriac:live:' .. id end
function key.log(id) return 'celeriac:log:' .. id end
function key.live_log(id) return 'celeriac:live-log:' .. id end
function key.waiting(group) return 'celeriac:waiting:' .. group end
function key.running(group) return 'celeriac:running:' .. group end
function key.group(group) return 'celeriac:group:' .. group end
function key.worker(id) return 'celeriac:worker:' .. id end
function key.feed(user) return 'celeriac:feed:' .. user end
function key.active(user) return 'celeriac:active:' .. user end
function key.recent(user) return 'celeriac:recent:' .. user end
function key.remote(group) return 'celeriac:remote:' .. group end
function key.remote_wake(group) return 'celeriac:remote-wake:' .. group end
function key.remote_parked(group) return 'celeriac:remote-parked:' .. group end
function key.permits(rule) return 'celeriac:permits:' .. rule end
function key.parked(rule) return 'celeriac:parked:' .. rule end
function key.out(rule) return 'celeriac:out:' .. rule end
function key.queued(rule) return 'celeriac:queued:' .. rule end
function key.arrivals(rule) return 'celeriac:arrivals:' .. rule end
function key.holders(rule) return 'celeriac:holders:' .. rule end
function key.turns(rule) return 'celeriac:turns:' .. rule end
function key.rates(rule) return 'celeriac:rates:' .. rule end
function key.gateways(group) return 'celeriac:gateways:' .. group end
function key.granted(gateway) return 'celeriac:granted:' .. gateway end
function key.open_conditions(id) return 'celeriac:open:' .. id end
function key.dependants(id) return 'celeriac:dependants:' .. id end
function key.workflow(id) return 'celeriac:workflow:' .. id end
function key.workflow_nodes(id) return 'celeriac:workflow-nodes:' .. id end
function key.workflow_states(id) return 'celeriac:workflow-states:' .. id end
function key.workflow_groups(id) return 'celeriac:workflow-groups:' .. id end
function key.workflow_events(id) return 'celeriac:workflow-events:' .. id end
function key.live_workflow(id) return 'celeriac:live-workflow:' .. id end
function key.workflow_plan(id) return 'celeriac:workflow-plan:' .. id end
function key.workflow_orders(id) return 'celeriac:workflow-orders:' .. id end
function key.waits_of(user) return 'celeriac:waits:' .. user end
function key.steps(id) return 'celeriac:steps:' .. id end
function key.signals(id) return 'celeriac:signals:' .. id end
function key.once(name) return 'celeriac:once:' .. name end
function key.debounce(name) return 'celeriac:debounce:' .. name end
function key.answered(id) return 'celeriac:answered:' .. id end
function key.replies(process) return 'celeriac:replies:' .. process end
