-- Tell how many replicas are with the server, and how many were before; note it if there are more.
--
-- KEYS[1] the note (text: the history of the server's data, a space, the most replicas that it had)
-- ARGV[1] after how long a silent replica does not count (s)   ARGV[2] a history of which the caller gives up a replica, '' for none
-- ARGV[3] how many it has without that (count)
--
-- Returns {history (text), replicas that are there (count), the most that are noted for this history (count)}.

local note, silent_s, given_up, left = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]

local info, count = redis.call('INFO', 'replication'), 0
local history = string.match(info, 'master_replid:(%w+)') or ''
for replica in string.gmatch(info, 'slave%d+:([^\r\n]*)') do
  local lag = string.match(replica, 'lag=(%d+)')
  if string.find(replica, 'state=online', 1, true) and lag and tonumber(lag) <= silent_s then count = count + 1 end
end

local noted = redis.call('GET', note)
local of, most = string.match(noted or '', '^(%w+) (%d+)$')
most = of == history and tonumber(most) or 0
if given_up ~= '' and given_up == history then most = tonumber(left) end
most = math.max(most, count)
local text = history .. ' ' .. string.format('%.0f', most)
-- A server that is a replica, or that takes no writes without more replicas, refuses it.
if text ~= noted then redis.pcall('SET', note, text) end
return {history, count, most}
