-- Whether a key has the type that a command wants, or does not exist: asked before a script writes anything.
local function fits(key, wanted)
  local kind = redis.call('TYPE', key).ok
  return kind == wanted or kind == 'none'
end
