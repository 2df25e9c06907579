-- The names of all keys, for one namespace: what keys.py is in Python.
local function names_of(namespace)
  local at = namespace .. ':'
  local own = at .. 'trioaction:'
  return {
    queues = at .. 'queues',
    queue = function(name) return at .. 'queue:' .. name end,
    workers = at .. 'workers',
    working_on = function(worker, queues) return at .. 'worker:' .. worker .. ':' .. queues end,
    started = function(worker, queues) return at .. 'worker:' .. worker .. ':' .. queues .. ':started' end,
    failed = at .. 'failed',
    stat = function(name, worker)
      return at .. 'stat:' .. name .. (worker and ':' .. worker or '')
    end,
    schedule = at .. 'delayed_queue_schedule',
    delayed = function(second) return at .. 'delayed:' .. second end,
    timestamps = function(element) return at .. 'timestamps:' .. element end,
    resque_leader = at .. 'resque_scheduler_leader_lock',
    pause_all = at .. 'pause-all-workers',
    ping = function(worker) return at .. 'worker:ping:' .. worker end,
    heartbeats = at .. 'workers:heartbeat',
    record = function(entry) return at .. 'worker:' .. entry end,
    queue_lock = function(job) return at .. 'lock:' .. job end,
    job_lock = function(job) return at .. 'workerslock:' .. job end,
    processes = own .. 'processes',
    process = function(id) return own .. 'process:' .. id end,
    lease = function(id) return own .. 'lease:' .. id end,
    inflight = function(id) return own .. 'inflight:' .. id end,
    owned = function(id) return own .. 'owned:' .. id end,
    leader = own .. 'leader',
    recurring = own .. 'recurring',
    guard = function(action) return own .. 'guard:' .. action end,
    retry = own .. 'retry',
    rate = function(kind, name) return own .. 'rate:' .. kind .. ':' .. name end,
    paused = own .. 'paused',
    emptied = function(text) return own .. 'emptied:' .. text end,
    owner = function(lock) return own .. 'owner:' .. lock end,
    locks_of = function(id) return own .. 'locks:' .. id end,
    blocked = own .. 'blocked',
    waiting = function(lock) return own .. 'waiting:' .. lock end,
    handed = function(lock) return own .. 'handed:' .. lock end,
    sieves = own .. 'sieves',
    sieve = function(name) return own .. 'sieve:' .. name end,
    aside = function(name) return own .. 'aside:' .. name end,
    kept = function(name) return own .. 'kept:' .. name end,
    waits = function(job) return own .. 'waits:' .. job end,
    deaths = own .. 'deaths',
    blamed = function(id) return own .. 'blamed:' .. id end,
    stranded_jobs = own .. 'stranded:jobs',
    stranded_failures = own .. 'stranded:failed',
    fan_out = function(id) return own .. 'fanout:' .. id end,
    cancelled = function(id) return own .. 'cancelled:' .. id end,
    news = function(inbox) return own .. 'news:' .. inbox .. ':' end,
  }
end

local last, names -- the namespace of the last run, and its names: a script that is kept as a function makes them once

-- The names, and what one run of a script has to remember: nothing else outlives a helper, since that would outlive the run.
local function keys_of(namespace)
  if last ~= namespace then last, names = namespace, {__index = names_of(namespace)} end
  return setmetatable({seen = {}, skipped = 0}, names)
end
