-- Takes delayed jobs out of their seconds: to delete them, to run them at once, or to put them off until another second.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix ms; "delete", "run", or the second to which they go; then for each job its second and raw element.
-- Returns a text for each job: "taken"; or, with nothing written of it, "gone" (it is not there any more), "homeless" (it names
--   no queue to run in), or what is wrong with a key.
-- Not idempotent: of equal jobs at a second each call takes one.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: take_delayed.lua
local keys, codes = keys_of(ARGV[1]), {}
local pass = pass_of(ARGV[2], ARGV[3])
for at = 4, #ARGV, 2 do codes[#codes + 1] = take_delayed(keys, pass, ARGV[at], ARGV[at + 1]) end
end_pass(keys, pass)
return codes
