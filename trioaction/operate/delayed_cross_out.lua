-- Drops notes of jobs that were not met when a long second was read, if it is now as it was before that.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the second, the mark that it had ("" if only its mark is wanted), then the raw elements whose notes
--   are dropped.
-- Returns {mark, how many were dropped}: none if the mark is another one, or "": the second is not in the schedule, by which it
--   would be read.
-- Idempotent.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys, second, mark, dropped = keys_of(ARGV[1]), ARGV[2], '', 0
local list = keys.delayed(second)

-- Jobs come to the end of a second; they leave it anywhere, but at the head if they are due. All this shows in its length
-- and ends.
if not fits(list, 'list') or redis.call('EXISTS', list) == 0 then
  mark = 'no jobs'
elseif redis.call('ZSCORE', keys.schedule, second) == second then
  local first, last = redis.call('LRANGE', list, 0, 1), redis.call('LRANGE', list, -2, -1)
  mark = redis.sha1hex(redis.call('LLEN', list) .. '\n' .. table.concat(first, '\n') .. '\n' .. table.concat(last, '\n'))
end
if mark ~= '' and mark == ARGV[3] then
  for at = 4, #ARGV do
    local gone = redis.pcall('SREM', keys.timestamps(ARGV[at]), 'delayed:' .. second)
    if gone == 1 then dropped = dropped + 1 end
  end
end
return {mark, dropped}
