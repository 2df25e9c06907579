-- Puts back what somebody has set aside of a list, one slice.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, name of the list (its key without the namespace), token of who calls ("" for who has set nothing aside).
-- Returns {"busy"} if another one looks through the list and has been heard of, {"wrongtype"} if the list's key is none, else
--   {"ok", entries that are left}: if there are any, call again.
-- Idempotent in that each entry goes back once.
-- include: keys.lua
-- include: aside.lua
local keys, name, token = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local owner = redis.call('HGET', keys.sieve(name), 'token')
if owner and owner ~= token then return {'busy'} end
-- The first write, and one that a full Redis lets pass: so do then all that follow.
redis.call('PERSIST', keys.sieves)
local left = bring_back(keys, name, ARGV[1] .. ':' .. name)
return left and {'ok', left} or {'wrongtype'}
