-- Batches: one call of a script handles many items, and what they change in an index is written once.

-- Calling a command costs more than most commands do. So `change` gathers what a batch adds to an index, removes from it or
-- pushes to a list, and writes it as one command per key at the end. A batch never both adds and removes the same member.
local gathered
local function change(command, k, ...)
  if not gathered then return redis.call(command, k, ...) end
  local by_key = gathered[command]
  local args = by_key[k]
  if not args then
    args = {}
    by_key[k] = args
  end
  for i = 1, select('#', ...) do args[#args + 1] = (select(i, ...)) end
end

-- Write what the items so far have gathered: the next one changes what an earlier one made. Returns a failure, if there was one.
local function write_gathered()
  local failure
  for command, by_key in pairs(gathered or {}) do
    gathered[command] = {}
    for k, args in pairs(by_key) do
      local reply = redis.pcall(command, k, unpack(args))
      if type(reply) == 'table' and reply.err then failure = failure or reply end
    end
  end
  return failure
end

-- What happened in this batch, see counts.lua: field -> number.
local counted
local write_count

-- What a batch granted of groups that a rule counts as a whole (group -> count), and the buckets that tasks have left (RULE\nBUCKET ->
-- {rule, bucket, count}), see limits.lua.
local granted_here, left_here
on_call(function()
  gathered, counted, granted_here, left_here = nil, nil, emptied(granted_here), emptied(left_here)
end)
-- Let others go on where tasks have left room. At the end of a batch, or of what moves a task.
local let_others_go

-- Handle a batch: the items of `width` arguments each from ARGV[first] on. Returns their replies: `handle` gets the arguments
-- of an item and returns its reply. `finish()`, if given, is called after all items and before what was gathered is written.
-- If an item fails, the ones before it are written as a whole before the error goes out. A single item writes as it goes: to
-- gather is worth it only for several, or if an item changes much itself (`large`).
local function each(first, width, handle, finish, large)
  local arguments, replies, failure = ARGV, {}, nil
  counted = {}
  if large or #arguments ~= first + width - 1 then gathered = {ZADD = {}, ZREM = {}, LPUSH = {}} end
  for base = first, #arguments, width do
    local ok, reply = pcall(handle, unpack(arguments, base, base + width - 1))
    if not ok then
      failure = reply
      break
    end
    replies[#replies + 1] = reply
  end
  if finish then
    local ok, reply = pcall(finish)
    if not ok then failure = failure or reply end
  end
  failure = write_gathered() or failure
  for field, number in pairs(counted) do write_count(field, number) end
  gathered, counted = nil, nil
  if let_others_go then let_others_go() end
  if failure then error(failure, 0) end
  return replies
end
