-- Cancel a workflow as a whole: each of its nodes that has not ended, as cancel.lua does.
--
-- ARGV[4] workflow (text)
--
-- Returns {its status before, '1' if more is to be done (see steer.lua), else ''}; {'', ''} if there is no such workflow.

local workflow = ARGV[4]

local status, cancelled = unpack(redis.call('HMGET', key.workflow(workflow), 'status', 'cancelled'))
if not status then return {'', ''} end
if status ~= 'RUNNING' or cancelled then return {status, ''} end
redis.call('HSET', key.workflow(workflow), 'cancelled', now)
redis.call('RPUSH', key.workflow_orders(workflow), 'cancel_all\n0')
return {status, steer(workflow) and '1' or ''}
