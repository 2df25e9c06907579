-- Writes the records of schedules that have changed without a run: other times, signs of life, expiry.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms; then for each record its schedule, its JSON as it was read ("" for none) and its
--   new JSON ("" deletes it).
-- Returns "lost" if this process does not lead (nothing is written), else "ok". A record that is not as it was read
--   any more is left alone.
-- Idempotent.
-- include: ../resque/keys.lua
local keys, process = keys_of(ARGV[1]), ARGV[2]
if redis.pcall('GET', keys.leader) ~= process then return 'lost' end
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
for at = 4, #ARGV, 3 do
  local schedule, read, new = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if (redis.call('HGET', keys.recurring, schedule) or '') == read then
    if new == '' then
      redis.call('HDEL', keys.recurring, schedule)
    else
      redis.call('HSET', keys.recurring, schedule, new)
    end
  end
end
return 'ok'
