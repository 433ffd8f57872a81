-- A call of a script, and what is known during one call only.
--
-- Where the server has functions, it makes all that is here once, and many calls use it (see `scripts.py`): what one call finds out
-- must not be there for the next one. So a part that keeps something says here how it begins, and each call begins with that.

-- Have each call begin with `reset()`.
local on_call
-- A table whose values are found by `find(name)`, each when a call asks for it first.
local memo
-- A function like `find(text)`, whose answers follow from the text alone: they stay for further calls.
local lasting
-- An empty table: this one, if it is empty.
local emptied
-- Begin a call. An earlier one may have failed in its middle.
local begin_call

do
  local at_begin = {}

  function on_call(reset) at_begin[#at_begin + 1] = reset end

  function memo(find)
    local known = setmetatable({}, {__index = function(known, name)
      local value = find(name)
      known[name] = value
      return value
    end})
    on_call(function()
      for name in pairs(known) do known[name] = nil end
    end)
    return known
  end

  -- Most such texts, and the longest one (bytes), that are kept.
  local MOST_TEXTS, LONGEST_TEXT = 200, 1024

  function lasting(find)
    local kept, size
    return function(text)
      local value = kept and kept[text]
      if value then return value end
      value = find(text)
      if #text <= LONGEST_TEXT then
        if not kept or size == MOST_TEXTS then kept, size = {}, 0 end
        kept[text], size = value, size + 1
      end
      return value
    end
  end

  function emptied(t) return t and next(t) == nil and t or {} end

  function begin_call()
    for i = 1, #at_begin do at_begin[i]() end
  end
end
