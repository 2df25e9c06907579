-- Makes the record of a fan-out, in the care of the process that registers its children.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, owner (a process id), TTL in ms, total or -1 if not known yet, Unix ms, names of its actions and
--   of its queues as JSON to show, the inbox of who waits for it ("" for nobody), the queue whose children go to its head ("").
-- Returns {code, key}: "ok", "no_owner" (no process of that id is registered) or "wrongtype" with the key that is the
--   matter; nothing is written but with "ok".
-- Idempotent: ids are random, so a record that stands is the one of the first time.
-- include: ../resque/keys.lua
-- include: record.lua
local keys, id, owner = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local at, owned, announced = keys.fan_out(id), keys.owned(owner), ARGV[5] ~= '-1'
if redis.call('EXISTS', at) == 1 then return {'ok', ''} end
if redis.call('EXISTS', keys.process(owner)) == 0 then return {'no_owner', keys.process(owner)} end
if not fits(owned, 'set') then return {'wrongtype', owned} end
redis.call('HSET', at,
  'total', announced and ARGV[5] or 0, 'announced', announced and 1 or 0, 'registered', 0, 'completed', 0, 'failed', 0,
  'cancelled', 0, 'is_cancelled', 0, 'sealed', 0, 'hwm', 0, 'owner', owner, 'ttl', ARGV[4], 'result_ttl', ARGV[4],
  'created', ARGV[6], 'action', ARGV[7], 'queue', ARGV[8], 'inbox', ARGV[9], 'front', ARGV[10], 'ring', 0)
redis.call('SADD', owned, id)
redis.call('PEXPIRE', at, ARGV[4])
return {'ok', ''}
