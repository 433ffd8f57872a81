-- Celery's messages, and the lists that they are pushed to.

-- kombu's lists of a queue: Redis serves 0 first, in steps of 3; ours is 0..9, higher is sooner.
local function list_step(priority) return math.floor((9 - priority) / 3) * 3 end
local function celery_list(group, priority)
  local step = list_step(priority)
  return step == 0 and group or group .. '\6\22' .. int(step)
end

local message_of
do
  -- One Celery message, protocol v2, in the envelope that kombu's Redis transport reads. The body is
  -- empty: the worker gets the payload with its claim. A task that Celery itself published keeps its
  -- own envelope in the record's field `message`.
  local EMPTY_BODY = 'W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsLCAiZXJyYmFja3MiOiBudWxsLCAiY2hhaW4iOiBudWxsLCAiY2hvcmQiOiBudWxsfV0='
  local json_of = setmetatable({}, {__index = function(memo, text)
    local json = cjson.encode(text)
    memo[text] = json
    return json
  end})
  local function celery_message(id, task_type, group, celery_priority, retries, summary, seq)
    local id_json = cjson.encode(id)
    return '{"body":"' .. EMPTY_BODY
      .. '","content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py","task":' .. json_of[task_type]
      .. ',"id":' .. id_json
      .. ',"shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":' .. retries
      .. ',"timelimit":[null,null],"root_id":' .. id_json
      .. ',"parent_id":null,"argsrepr":"()","kwargsrepr":' .. cjson.encode(summary)
      .. ',"origin":"celeriac","ignore_result":true,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{},"celeriac":1},'
      .. '"properties":{"correlation_id":' .. id_json
      .. ',"reply_to":"","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":' .. json_of[group]
      .. '},"priority":' .. celery_priority .. ',"body_encoding":"base64","delivery_tag":'
      .. string.sub(id_json, 1, -2) .. ':' .. int(seq) .. '"}}'
  end

  -- At most 200 plain characters of the payload, for people who look at the message in Flower; nothing of one with secrets.
  local function summary_of(payload, secret_fields)
    -- A space ahead is how records had it that were written before they had the field secret_fields.
    if secret_fields or string.byte(payload) == 32 then return '***' end
    local start = string.sub(payload, 1, 200)
    return string.find(start, '[\128-\255]') and (string.gsub(start, '[\128-\255]', '?')) or start
  end

  -- The Celery message of a task: its own, if Celery published it, else one of ours. `seq` makes its delivery unique.
  -- Its retries do not count the attempts of calls that had the id before. If a kept message is not the first one, the
  -- header `celeriac-edition` says which it is.
  -- `t`: type, queue, priority, attempt, attempts_before, resumes, edition, message, payload, secret_fields
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
    return celery_message(t.id, t.type, t.queue, 9 - (tonumber(t.priority or 0) or 0), retries, summary_of(t.payload or '', t.secret_fields), seq)
  end
end

-- Push to a list at the end that is read next (`front`) or last; false when the key holds something else.
local is_list = {}
local function push(list, value, front)
  if gathered and not front then
    if is_list[list] == nil then
      local kind = redis.call('TYPE', list).ok
      is_list[list] = kind == 'list' or kind == 'none'
    end
    if is_list[list] then change('LPUSH', list, value) end
    return is_list[list]
  end
  local reply = redis.pcall(front and 'RPUSH' or 'LPUSH', list, value)
  if type(reply) ~= 'table' or not reply.err then return true end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return false end
  return error(reply.err)
end
