-- Renews the lease of a process, even a lapsed one: only a rescue (which deletes the record) ends a process.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms.
-- Returns "ok", or "gone" if the process has no record, or one that a rescue has begun to dissolve. Idempotent.
-- include: ../resque/keys.lua
local keys = keys_of(ARGV[1])
redis.call('PEXPIRE', keys.lease(ARGV[2]), ARGV[3]) -- first, since a full Redis refuses to begin with SET
if redis.call('HEXISTS', keys.process(ARGV[2]), 'seq') == 0 then return 'gone' end
redis.call('SET', keys.lease(ARGV[2]), 1, 'PX', ARGV[3])
return 'ok'
