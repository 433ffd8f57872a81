-- Build the messages of tasks that were taken from the outbox, for a broker other than Redis.
--
-- ARGV[4..] ids (texts)
--
-- Returns one array per task that still waits: {group, priority (0..9), envelope (JSON)}.

local messages = {}
for i = 4, #ARGV do
  local t = read(ARGV[i], {'status', unpack(FIELDS_OF_A_HINT)})
  if t.status == 'PENDING' then
    messages[#messages + 1] = {t.queue, tonumber(t.priority or 0), message_of(t, take_seq(1))}
  end
end
return messages
