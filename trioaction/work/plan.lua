-- Writes the records of recurring actions that have changed without a run: new frequencies, signs of life, expiry.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms; then for each record its action, its JSON as it was read ("" for none) and its
--   new JSON ("" deletes it).
-- Returns "lost" if this process does not lead (nothing is written), else "ok". A record that is not as it was read
--   any more is left alone.
-- Idempotent.
-- include: ../resque/keys.lua
local keys, process = keys_of(ARGV[1]), ARGV[2]
if redis.pcall('GET', keys.leader) ~= process then return 'lost' end
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
for at = 4, #ARGV, 3 do
  local action, read, new = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if (redis.call('HGET', keys.recurring, action) or '') == read then
    if new == '' then
      redis.call('HDEL', keys.recurring, action)
    else
      redis.call('HSET', keys.recurring, action, new)
    end
  end
end
return 'ok'
