-- The time, which is the server's. It is read once per call.

-- Milliseconds since the epoch, and the same as text.
local now_ms, now

local format = string.format
local function int(n) return format('%.0f', n) end

-- Milliseconds since the epoch -> RFC 3339 in UTC. Days to civil date after H. Hinnant,
-- "chrono-compatible low-level date algorithms" (days_from_civil and back).
local function rfc3339(ms)
  local s = math.floor(ms / 1000)
  local z = math.floor(s / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local sod = s % 86400
  return format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
    math.floor(sod / 3600), math.floor(sod / 60) % 60, sod % 60, ms % 1000)
end

-- The time in RFC 3339.
local now_text
do
  local written
  on_call(function()
    local t = redis.call('TIME')
    now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
    now, written = int(now_ms), nil
  end)

  function now_text()
    written = written or rfc3339(now_ms)
    return written
  end
end

-- The moment (ms since the epoch) that a submission gives as such or as a time from now, nil if it gives neither.
local function moment(at_ms, in_ms)
  return tonumber(at_ms) or (in_ms ~= '' and now_ms + tonumber(in_ms) or nil)
end
