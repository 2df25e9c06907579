-- Takes, keeps or gives up the two leaderships of schedulers: of delayed jobs (node-resque's key) and of recurring ones.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, term in ms, "take" or "release".
-- Returns two words, for delayed and for recurring jobs: "own", "other" (somebody else leads), "free" (given up, or never
--   ours) or "wrongtype" (the key is no string).
--   A process that has no record (any more) gives up what it has: its rescue, which would take it from it, has been.
-- Idempotent: taking what one has makes its term whole again.
-- include: ../resque/keys.lua
local keys, process, term, releases = keys_of(ARGV[1]), ARGV[2], ARGV[4], ARGV[5] == 'release'
-- First, since a full Redis refuses to begin with SET, and it is drained by a leader too.
redis.call('PEXPIRE', keys.lease(process), ARGV[3])
local is_member = redis.call('HEXISTS', keys.process(process), 'seq') == 1

local function lead(key)
  local leader = redis.pcall('GET', key)
  if type(leader) == 'table' then return 'wrongtype' end
  if leader and leader ~= process then return 'other' end
  if releases or not is_member then
    redis.call('DEL', key)
    return 'free'
  end
  redis.call('SET', key, process, 'PX', term)
  return 'own'
end

return {lead(keys.resque_leader), lead(keys.leader)}
