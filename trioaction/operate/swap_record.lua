-- Writes the record of a schedule if it is as it was read.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, schedule, its record as it was read ("" for none), its new record.
-- Returns 1, or 0 if the record has changed meanwhile (nothing is written).
-- Idempotent: the same call again finds the record changed.
-- include: ../resque/keys.lua
local keys = keys_of(ARGV[1])
if (redis.call('HGET', keys.recurring, ARGV[2]) or '') ~= ARGV[3] then return 0 end
redis.call('PERSIST', keys.recurring) -- first, so that a full Redis lets an operator stop what fills it
redis.call('HSET', keys.recurring, ARGV[2], ARGV[4])
return 1
