-- Run the nodes of an ended workflow again that failed or were cancelled, and put those that they had cancelled back to waiting.
--
-- ARGV[4] workflow (text)   ARGV[5] nonce of this call (text)   ARGV[6..] the tasks of such nodes, each after its parents (texts)
--
-- Returns {its status before, '1' if more is to be done (see steer.lua), else ''}; {'', ''} if there is no such workflow. Nothing
-- happens to one that is RUNNING or COMPLETED. A repeated call (its reply was lost) answers as the first one.

local workflow, nonce = ARGV[4], ARGV[5]

local record = key.workflow(workflow)
local status, retried, retried_from = unpack(redis.call('HMGET', record, 'status', 'retried', 'retried_from'))
if not status then return {'', ''} end
if retried == nonce then return {retried_from, redis.call('EXISTS', key.workflow_orders(workflow)) == 1 and '1' or ''} end
if status ~= 'FAILED' and status ~= 'CANCELLED' then return {status, ''} end
redis.call('HSET', record, 'retried', nonce, 'retried_from', status)
reopen_workflow(workflow)
for place = 6, #ARGV do redis.call('RPUSH', key.workflow_orders(workflow), 'retry\n' .. ARGV[place] .. '\n' .. nonce) end
return {status, steer(workflow) and '1' or ''}
