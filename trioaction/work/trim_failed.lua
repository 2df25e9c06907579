-- Takes entries that are too old, and the oldest of those that are too many, from the failed list.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, most entries to keep (0: any number), most to take for being too many; the rest are entries
--   that are too old, as they were read.
-- Returns {"lost"} if this process does not lead (nothing is written), else {"ok", taken for their age, taken for their
--   number, entries that are left}.
-- Idempotent: an entry that is gone is not taken again. An entry that somebody has changed meanwhile stays, and so do all while
--   some are set aside (see operate/sift.py): then the first ones are not the oldest.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys, process = keys_of(ARGV[1]), ARGV[2]
local keep, slice = tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.pcall('GET', keys.leader) ~= process then return {'lost'} end
if not fits(keys.failed, 'list') then return {'ok', 0, 0, 0} end
if redis.call('EXISTS', keys.aside('failed'), keys.kept('failed')) > 0 then return {'ok', 0, 0, 0} end

-- Near the head, where LREM begins to look, unless somebody else has taken them. A full Redis lets all of this pass.
local aged = 0
for at = 5, #ARGV do
  aged = aged + redis.call('LREM', keys.failed, 1, ARGV[at])
end
local left = redis.call('LLEN', keys.failed)
local excess = keep > 0 and math.min(math.max(left - keep, 0), slice) or 0
if excess > 0 then redis.call('LTRIM', keys.failed, excess, -1) end
return {'ok', aged, excess, left - excess}
