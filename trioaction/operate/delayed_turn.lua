-- Goes through the first jobs of a long second: those that are not meant go to its end, the others are deleted, run or put off.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix ms, "delete", "run" or another second to which they go, the second, SHA-1 of the first jobs joined by
--   line ends, and a letter for each of these: "t" for those that are taken, "k" for those that are kept.
-- Returns {"changed"} with nothing written if these are not the first jobs any more, {"wrongtype", text} if a key is in the way
--   of all, else {"ok", how many were taken}: those that something stands in the way of are kept.
-- Not idempotent.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: take_delayed.lua
local keys, second, letters = keys_of(ARGV[1]), ARGV[4], ARGV[6]
local pass, list = pass_of(ARGV[2], ARGV[3]), keys.delayed(ARGV[4])
local problem = obstacle(keys, pass) or trouble(pass, keys.delayed(second), 'list', 'list')
if problem then return {'wrongtype', problem} end
local raws = redis.call('LRANGE', list, 0, #letters - 1)
if #raws ~= #letters or redis.sha1hex(table.concat(raws, '\n')) ~= ARGV[5] then return {'changed'} end

local kept, taken, queues = {}, {}, {}
for at, raw in ipairs(raws) do
  local is_meant = string.sub(letters, at, at) == 't'
  if is_meant and pass.how == 'run' then
    queues[raw] = destination(keys, pass, raw)
    is_meant = queues[raw] ~= nil
  end
  if is_meant then taken[#taken + 1] = raw else kept[#kept + 1] = raw end
end

redis.call('LPOP', list, #raws) -- the first write, and one that a full Redis lets pass: so do then all that follow
if #kept > 0 then redis.call('RPUSH', list, unpack(kept)) end
if redis.call('EXISTS', list) == 0 then redis.call('ZREM', keys.schedule, second) end
for _, raw in ipairs(taken) do
  -- equal ones are taken too, later on: to search for them each time would take Redis milliseconds
  redis.pcall('SREM', keys.timestamps(raw), 'delayed:' .. second)
  place(keys, pass, queues[raw], raw)
end
end_pass(keys, pass)
return {'ok', #taken}
