-- Counts delayed jobs, at most so many seconds of them.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the second behind which to begin ("-inf" for the first), most seconds.
-- Returns {second, jobs}: the second is where to go on, "" if there is no more.
-- Reads only.
-- include: ../resque/keys.lua
local keys, after, most = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local from = after == '-inf' and after or '(' .. after
local members = redis.call('ZRANGEBYSCORE', keys.schedule, from, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local jobs = 0
for at = 1, #members, 2 do
  local length = redis.pcall('LLEN', keys.delayed(members[at]))
  if type(length) == 'number' then jobs = jobs + length end -- what is no list has no jobs
end
return {#members < 2 * most and '' or members[#members], jobs}
