-- Put the record of an ended workflow back that has left the store, as the history has it. It leaves again after the retention.
--
-- ARGV[4] workflow (text)   ARGV[5] its record (JSON object of texts)
-- ARGV[6..] 3 values per node: 1 name (text)   2 the node (JSON object)   3 its state (text), '' for none (see workflows.lua)
--
-- Returns 'ok' | 'there' (the store has the workflow).

local workflow, record = ARGV[4], ARGV[5]

if redis.call('EXISTS', key.workflow(workflow)) == 1 then return 'there' end
for name, value in pairs(cjson.decode(record)) do redis.call('HSET', key.workflow(workflow), name, value) end
for base = 6, #ARGV, 3 do
  local name, node, state = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  redis.call('HSET', key.workflow_nodes(workflow), name, node)
  if state ~= '' then redis.call('HSET', key.workflow_states(workflow), name, state) end
end
each_key_of_workflow(workflow, 'PEXPIRE', int(retention_ms))
return 'ok'
