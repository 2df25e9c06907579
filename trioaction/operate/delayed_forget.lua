-- Drops notes that a job waits at a second at which it does not.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the longest list that is searched; then for each note its second and the raw element.
-- Returns a text for each: "kept", "dropped", or "long" (nothing was done).
-- Idempotent.
-- include: ../resque/keys.lua
local keys, longest, codes = keys_of(ARGV[1]), tonumber(ARGV[2]), {}

local function judged(second, raw)
  local list = keys.delayed(second)
  local length = redis.pcall('LLEN', list)
  if type(length) == 'table' then length = 0 end -- a key of another type has no jobs
  if length > longest then return 'long' end
  if length > 0 and redis.call('LPOS', list, raw) then return 'kept' end
  local dropped = redis.pcall('SREM', keys.timestamps(raw), 'delayed:' .. second)
  return dropped == 1 and 'dropped' or 'kept'
end

for at = 3, #ARGV, 2 do codes[#codes + 1] = judged(ARGV[at], ARGV[at + 1]) end
return codes
