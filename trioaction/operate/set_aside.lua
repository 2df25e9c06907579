-- Sets a list aside as a whole, so that one process can look through it while others push to the list and pop from it.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, name of the list (its key without the namespace), token, lease in ms.
-- Returns {"ok", its entries}; or, with nothing written, {"none"} if there are none, {"busy"} if another one looks through it,
--   {"left"} if something is there that one who is gone has set aside, or {"wrongtype"} if the key is no list.
-- Idempotent: again with the same token it answers as the first time.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys, name, token, lease = keys_of(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local list = ARGV[1] .. ':' .. name
local owner = redis.call('HGET', keys.sieve(name), 'token')
if owner == token then return {'ok', redis.call('LLEN', keys.aside(name))} end
if owner then return {'busy'} end
if redis.call('EXISTS', keys.aside(name), keys.kept(name)) > 0 then return {'left'} end
if not fits(list, 'list') then return {'wrongtype'} end
if redis.call('EXISTS', list) == 0 then return {'none'} end
redis.call('RENAME', list, keys.aside(name)) -- the first write, and one that a full Redis lets pass
redis.call('SADD', keys.sieves, name)
redis.call('HSET', keys.sieve(name), 'token', token, 'taken', 0, 'unfit', 0)
redis.call('PEXPIRE', keys.sieve(name), lease)
return {'ok', redis.call('LLEN', keys.aside(name))}
