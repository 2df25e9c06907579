-- Puts one job off until a second, if no equal one waits for its time.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix second, raw element, "<class>:<queue>:", seconds for which it is noted how its element ends.
-- Returns 1, or 0 if it is refused; -1 if it has looked at enough, and is to be asked again: what it
--   found stale is dropped. Or the error WRONGTYPE that names the key, and nothing is written.
-- Not idempotent, but no second job comes of it: the same call again finds the first one, and says that it refuses.
-- include: keys.lua
-- include: types.lua
-- include: args_of.lua
-- include: waits.lua
-- include: delay_one.lua
local keys, second, raw = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local job, looks = ARGV[4] .. args_of(raw), looks_of()
local wrong = undelayable(keys, second, raw)
if wrong then return wrong end
if not readable(keys, job, raw) then return redis.error_reply('WRONGTYPE the timestamps key of this job is no set') end

local waits = waits_for_its_time(keys, looks, job, raw)
if waits == false then
  delay_one(keys, second, raw)
  note_waiting(keys, job, raw, ARGV[5])
end
forget_stale(looks)
if waits == nil then return -1 end
return waits and 0 or 1
