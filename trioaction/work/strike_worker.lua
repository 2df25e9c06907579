-- Strikes a dead worker of another program off the list, and makes a failed job of what it worked on.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the process that leads the delayed jobs ("" if somebody asks by hand), lease in ms, name of the worker, its
--   ping and its heartbeat as they were read ("" for none); then triples entry among the workers, record of its job as it was
--   read ("" for none), entry of the failed list ("" if there is no job).
-- Returns "struck", "lost" (this process does not lead), "changed" (it is not as it was read, so it lives, has ended or was
--   struck off by somebody else), or the name of a key of the wrong type; but for the first, nothing was written.
-- Idempotent: an entry that is gone is not struck off again.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys, process, name, ping, heartbeat = keys_of(ARGV[1]), ARGV[2], ARGV[4], ARGV[5], ARGV[6]
if process ~= '' and redis.pcall('GET', keys.resque_leader) ~= process then return 'lost' end
if not fits(keys.workers, 'set') then return keys.workers end
if not fits(keys.failed, 'list') then return keys.failed end

local function text_at(key)
  local text = redis.pcall('GET', key)
  return type(text) == 'string' and text or ''
end

local beat = redis.pcall('HGET', keys.heartbeats, ARGV[7])
if text_at(keys.ping(name)) ~= ping or (type(beat) == 'string' and beat or '') ~= heartbeat then return 'changed' end
for at = 7, #ARGV, 3 do
  if redis.call('SISMEMBER', keys.workers, ARGV[at]) == 0 or text_at(keys.record(ARGV[at])) ~= ARGV[at + 1] then
    return 'changed'
  end
end

redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- a full Redis refuses to begin with what follows
redis.call('DEL', keys.ping(name), keys.stat('processed', name), keys.stat('failed', name))
for at = 7, #ARGV, 3 do
  local entry, failure = ARGV[at], ARGV[at + 2]
  redis.call('SREM', keys.workers, entry)
  if failure ~= '' then
    redis.call('RPUSH', keys.failed, failure)
    redis.pcall('INCR', keys.stat('failed'))
  end
  redis.call('DEL', keys.record(entry), keys.record(entry .. ':started'))
  redis.call('DEL', keys.stat('processed', entry), keys.stat('failed', entry))
  redis.pcall('HDEL', keys.heartbeats, entry)
end
return 'struck'
