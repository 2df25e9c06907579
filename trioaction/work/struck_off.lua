-- Jobs in flight whose worker was struck off: node-resque's leader may have held it for dead, and have made failed jobs of them.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id.
-- Returns {any, ...}: 1 if a worker was struck off, and for each such job in flight its place, its token and 1 if it surely
--   is a failed job, or was one; 0 if nobody can tell.
-- Reads only.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../fanout/identity.lua
-- include: inflight.lua
-- include: listed.lua
local MAX_SLOTS = 10000 -- as the settings have it
local keys = keys_of(ARGV[1])
local process = ARGV[2]
local slots, queues, listed = unpack(redis.call('HMGET', keys.process(process), 'slots', 'queues', 'listed'))
local inflight = keys.inflight(process)
if not slots or not queues or not fits(keys.workers, 'set') or not fits(inflight, 'hash') then return {0} end

-- It leaves the record of what a worker works on where it is, and nothing else of the worker. If that shows another job, as it
-- does for one that is too large, then the job itself was in no list. A child must end in its fan-out, which counts it once.
local function is_failed_job(place, token, raw)
  local worker = process .. '-' .. place
  if redis.call('EXISTS', keys.ping(worker), keys.started(worker, queues)) > 0 then return false end
  local record = redis.pcall('GET', keys.working_on(worker, queues))
  if type(record) ~= 'string' or not string.find(record, raw, 1, true) or child_of(raw) then return false end
  return string.byte(place) == 112 or tonumber(token) <= tonumber(listed or 0) -- "p"
end

local places, found = slots_of(1, math.min(tonumber(slots) or 0, MAX_SLOTS)), {0}
for _, place in ipairs(redis.call('HKEYS', inflight)) do
  if string.match(place, '^p%d+$') then places[#places + 1] = place end
end
local unlisted, struck = struck_off(keys, process, queues, places)
for _, place in ipairs(struck) do
  found[1] = 1
  local token, _, raw = inflight_parts(redis.call('HGET', inflight, place) or '')
  if token then
    found[#found + 1], found[#found + 2] = place, token
    found[#found + 1] = unlisted[place] and is_failed_job(place, token, raw) and 1 or 0
  end
end
return found
