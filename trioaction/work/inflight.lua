-- A job in flight as one text: "<token> <bytes in the queue's name> <queue's name><raw element>".
local function inflight_entry(token, queue, raw)
  return token .. ' ' .. #queue .. ' ' .. queue .. raw
end

-- Does such a text, or false for none, have this token?
local function has_token(entry, token)
  return entry and string.sub(entry, 1, #token + 1) == token .. ' '
end

-- The token, the queue and the raw element of such a text; nil if it is none.
local function inflight_parts(entry)
  local token, size, from = string.match(entry, '^(%d+) (%d+) ()')
  if not token then return nil end
  size = tonumber(size)
  return token, string.sub(entry, from, from + size - 1), string.sub(entry, from + size)
end
