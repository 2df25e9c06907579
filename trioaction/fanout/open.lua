-- Makes the record of a fan-out, in the care of the process that registers its children.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, owner (a process id), TTL in ms, total or -1 if not known yet, Unix ms, names of its actions and
--   of its queues as JSON to show, the inbox of who waits for it ("" for nobody), the queue whose children go to its head (""),
--   the TTL in ms once it is finished, what to keep ("all", "errors" or "none"), most children that may be out and most that
--   may be registered without having ended (0: any number), and the follow-ups, as queue and beginning of the element each
--   ("" for none; see follow_up.lua): the one that comes in any case, and the one that comes if all went well.
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
  'cancelled', 0, 'is_cancelled', 0, 'sealed', 0, 'hwm', 0, 'owner', owner, 'ttl', ARGV[4], 'result_ttl', ARGV[11],
  'created', ARGV[6], 'action', ARGV[7], 'queue', ARGV[8], 'inbox', ARGV[9], 'front', ARGV[10], 'keep', ARGV[12],
  'max_running', ARGV[13], 'max_queued', ARGV[14], 'out', 0, 'pace', '', 'cut', 0, 'over', 0)
if ARGV[16] ~= '' then redis.call('HSET', at, 'then_queue', ARGV[15], 'then', ARGV[16]) end
if ARGV[18] ~= '' then redis.call('HSET', at, 'then_if_ok_queue', ARGV[17], 'then_if_ok', ARGV[18]) end
redis.call('SADD', owned, id)
redis.call('PEXPIRE', at, ARGV[4])
return {'ok', ''}
