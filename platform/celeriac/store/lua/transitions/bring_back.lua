-- Put the record of an ended task back that has left the store, so that tasks may depend on it and read its result. It leaves
-- again after its retention.
--
-- ARGV[4] id (text)   ARGV[5] the record (JSON object of texts), as the history has it
--
-- Returns 'ok' | 'there' (the store has the task) | 'open' (it has not ended, so it is not to be put back).

local id, record = ARGV[4], cjson.decode(ARGV[5])

if redis.call('EXISTS', key.task(id)) == 1 then return 'there' end
if not is_final(record.status) then return 'open' end
for name, value in pairs(record) do redis.call('HSET', key.task(id), name, value) end
leave_after(id, record.retention_ms or int(retention_ms))
return 'ok'
