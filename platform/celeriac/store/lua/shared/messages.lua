-- Celery's messages, and the lists that they are pushed to.

-- kombu's lists of a queue: Redis serves 0 first, in steps of 3; ours is 0..9, higher is sooner.
local function list_step(priority) return math.floor((9 - priority) / 3) * 3 end
local function celery_list(group, priority)
  local step = list_step(priority)
  local list = key.prefix .. group
  return step == 0 and list or list .. '\6\22' .. int(step)
end

local message_of
do
  -- One Celery message, protocol v2, in the envelope that kombu's Redis transport reads, with as little in it as Celery needs to
  -- run it: most waiting tasks have one, and it is as long as their records. A worker of ours writes it out when somebody is to
  -- see it (`engine/calls/hints.py`), and gets the payload with its claim. A task that Celery itself published keeps its own
  -- envelope in the record's field `message`.
  local json_of = lasting(cjson.encode)
  local function celery_message(id, task_type, group, celery_priority, retries, seq)
    return '{"headers":{"celeriac":1,"task":' .. json_of(task_type) .. ',"id":' .. cjson.encode(id)
      .. (retries == '0' and '' or ',"retries":' .. retries)
      .. '},"body":"[[],{},{}]","content-type":"application/json","properties":{'
      .. (celery_priority == 9 and '' or '"priority":' .. celery_priority .. ',')
      .. '"delivery_tag":"' .. int(seq) .. '","delivery_info":{"exchange":"","routing_key":' .. json_of(group) .. '}}}'
  end

  -- The Celery message of a task: its own, if Celery published it, else one of ours. `seq` makes its delivery unique.
  -- Its retries do not count the attempts of calls that had the id before. If a kept message is not the first one, the
  -- header `celeriac-edition` says which it is.
  -- `t`: type, queue, priority, attempt, attempts_before, resumes, edition, message
  function message_of(t, seq)
    local retries, message = t.attempt or '0', t.message
    if t.attempts_before then retries = int(tonumber(retries) - tonumber(t.attempts_before)) end
    if t.resumes then retries = int(tonumber(retries) - 1) end
    if message then
      -- The headers come first, so this is found at once. What is as it should be is not copied: it may be long.
      local from, to, noted = string.find(message, '"retries": ?(%d+)')
      if not from or (noted == retries and not t.edition) then return message end
      local edition = t.edition and ', "celeriac-edition": ' .. t.edition or ''
      return string.sub(message, 1, from - 1) .. '"retries": ' .. retries .. edition .. string.sub(message, to + 1)
    end
    return celery_message(t.id, t.type, t.queue, 9 - (tonumber(t.priority or 0) or 0), retries, seq)
  end
end

-- Push to a list at the end that is read next (`front`) or last; false when the key holds something else.
local is_list = memo(function(list)
  local kind = redis.call('TYPE', list).ok
  return kind == 'list' or kind == 'none'
end)
local function push(list, value, front)
  if gathered and not front then
    if is_list[list] then change('LPUSH', list, value) end
    return is_list[list]
  end
  local reply = redis.pcall(front and 'RPUSH' or 'LPUSH', list, value)
  if type(reply) ~= 'table' or not reply.err then return true end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return false end
  return error(reply.err)
end
