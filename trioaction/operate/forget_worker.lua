-- Deletes what is left of workers that are in the list of workers no more.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, then for each left-over key: the entry that the worker would have among all workers ("" if only its name is
--   known), the process of ours that it would belong to ("" for another program's), the end of its key behind "worker:", its
--   value as it was read.
-- Returns for each 1 if it was deleted; 0 if it is another one by now, or if its worker is listed or its process is there.
-- Idempotent: what is gone is not deleted again.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys, deleted = keys_of(ARGV[1]), {}
local is_set = fits(keys.workers, 'set')
for at = 2, #ARGV, 4 do
  local entry, process, key = ARGV[at], ARGV[at + 1], keys.record(ARGV[at + 2])
  local lives = entry ~= '' and is_set and redis.call('SISMEMBER', keys.workers, entry) == 1
  if process ~= '' then lives = lives or redis.call('EXISTS', keys.process(process), keys.inflight(process)) > 0 end
  local is_same = not lives and redis.pcall('GET', key) == ARGV[at + 3]
  deleted[#deleted + 1] = is_same and redis.call('DEL', key) or 0
end
return deleted
