-- Keeps what children that run say of their own progress.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, then for each note the id, the index of the child, and the text.
-- Returns "ok". A note is passed over if its record is gone or damaged, never handed out such an index, or has the child as one
--   that has ended or does not run (any more): it may be about an attempt that was given up meanwhile.
-- Idempotent.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: touch.lua
-- include: news.lua
local keys, touched = keys_of(ARGV[1]), {}

local function keep_note(id, index, text)
  local record = record_of(keys, id)
  if record.code or index >= record.hwm or redis.call('GETBIT', record.at .. ':started', index) == 0 then return end
  if redis.call('GETBIT', record.at .. ':done', index) == 1 then return end
  redis.call('HSET', record.at .. ':notes', index, text)
  record.has_moved = true
  touched[id] = true
end

redis.call('PEXPIRE', keys.news(''), 1) -- no key of ours: a full Redis, which refuses to begin with HSET, lets the rest pass
for at = 2, #ARGV, 3 do keep_note(ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]) end
touch_all(keys, touched)
tell_all(keys, touched)
return 'ok'
