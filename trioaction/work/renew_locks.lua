-- Makes the terms of locks whole again that jobs of a process hold, some of them.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, Unix seconds, cursor ("0" to begin with).
-- Returns the next cursor, "0" behind the last ones. A lock that has lapsed stays as it is: it may be another's.
-- Idempotent.
-- include: ../resque/keys.lua
-- include: job_locks.lua
local keys, process, now = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[4])
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
local found = redis.pcall('HSCAN', keys.locks_of(process), ARGV[5], 'COUNT', 100)
if found.err then return '0' end
for at = 2, #found[2], 2 do
  local word, seconds, job = string.match(found[2][at], '^(%S+) (%d+) (.*)$')
  local value = word and redis.pcall('GET', keys.job_lock(job))
  if type(value) == 'string' and is_ours(keys, process, word, job, value) then
    write_lock(keys, process, word, job, string.format('%d', now + seconds + 1), seconds)
  end
end
return found[1]
