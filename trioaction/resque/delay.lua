-- Puts one job off until a second, as node-resque does, but in one step.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix second, raw element.
-- Returns "ok"; or the error WRONGTYPE that names the key, and nothing is written.
-- Not idempotent: two equal jobs at the same second are two jobs.
-- include: keys.lua
-- include: types.lua
-- include: delay_one.lua
local keys, second, raw = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local wrong = undelayable(keys, second, raw)
if wrong then return wrong end
delay_one(keys, second, raw)
return 'ok'
