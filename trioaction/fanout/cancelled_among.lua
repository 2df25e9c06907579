-- Which of these fan-outs have been cancelled, for a process that runs children of them and may not have been told.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, then at most 100 ids.
-- Returns those ids.
-- Idempotent: it writes nothing.
-- include: ../resque/keys.lua
-- include: void.lua
local keys, cancelled = keys_of(ARGV[1]), {}
for at = 2, #ARGV do
  if is_void(keys, ARGV[at]) then cancelled[#cancelled + 1] = ARGV[at] end
end
return cancelled
