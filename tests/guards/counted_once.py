"""An end is counted once: no end of a job is counted twice, nor one that was another process's to count."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import CONNECTIONS, CYCLE, MEMBERS, POOL, RETRIES, RULES, TRANSPORT, TRANSPORT_FAULTS

COUNTED_ONCE = Promise(
    "An end is counted once",
    (
        Guard(
            "an outcome has the token of its job",
            "work/finish.lua",
            "if cycle.ended[place] or not has_token(entry, words[from + 1]) then",
            "if false then",
            (CYCLE,),
        ),
        Guard(
            "a second outcome for a slot of the same exchange",
            "work/finish.lua",
            "if cycle.ended[place] or not",
            "if not",
            (CYCLE,),
        ),
        Guard(
            "an exchange that was done before",
            "work/cycle.lua",
            "if sequence == last then",
            "if false then",
            (CYCLE,),
        ),
        Guard(
            "an exchange that arrives late",
            "work/cycle.lua",
            "if tonumber(sequence) < tonumber(last) then return {'stale'} end",
            "",
            (CYCLE,),
        ),
        Guard(
            "a reconcile that arrives late",
            "work/reconcile.lua",
            "if tonumber(sequence) < tonumber(last) then return {'stale'} end",
            "",
            (RULES,),
        ),
        Guard(
            "a cycle notes its number",
            "work/cycle.lua",
            "redis.call('HSET', keys.process(process), 'seq', sequence)\n",
            "",
            (CYCLE,),
        ),
        Guard(
            "a reconcile has a number of its own",
            "work/cycle.py",
            "        self._sequence += 1\n        words =",
            "        words =",
            (CYCLE,),
        ),
        Guard(
            "the answer to a replay has only its own jobs",
            "work/again.lua",
            "    if has_token(entry, cycle.sequence) then",
            "    if entry then",
            (CYCLE,),
        ),
        Guard(
            "outcomes that Redis does expect are kept",
            "work/outbox.py",
            "self.outcomes[:oldest] = kept",
            "del self.outcomes[:oldest]",
            (RULES,),
        ),
        Guard(
            "what has ended and is not acknowledged is no stray",
            "work/shift.py",
            "reconcile(running + waiting, moves=moves)",
            "reconcile(running, moves=moves)",
            (RULES,),
        ),
        Guard(
            "slots whose outcome waits are not filled",
            "work/shift.py",
            "return sorted(self._slots.free - waiting)",
            "return sorted(self._slots.free)",
            (POOL,),
        ),
        Guard(
            "a cycle without a record does nothing",
            "work/cycle.lua",
            "if not last then return {'gone'} end",
            "last = last or '0'",
            (CYCLE,),
        ),
        Guard(
            "a rescue fences with its first slice",
            "work/dissolve.lua",
            "redis.call('HDEL', keys.process(process), 'seq')",
            "",
            (MEMBERS,),
        ),
        Guard(
            "no heartbeat stops a rescue that has begun",
            "work/heartbeat.lua",
            "if redis.call('HEXISTS', keys.process(ARGV[2]), 'seq') == 0 then return 'gone' end",
            "",
            (MEMBERS,),
        ),
        Guard(
            "the heartbeat tells the pool of the fence",
            "work/membership.py",
            "        self.on_fenced()\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "an exchange tells of the fence",
            "work/shift.py",
            "            self._crew.membership.fenced(self._process)",
            "            pass",
            (POOL,),
        ),
        Guard(
            "a fence cancels what runs",
            "work/shift.py",
            "on_fenced = self._scope.cancel\n",
            "on_fenced = lambda: None\n",
            (POOL,),
        ),
        Guard(
            "a fence is for the id that it names",
            "work/membership.py",
            "        if self.id != id:\n            return\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "processed is counted",
            "work/finish.lua",
            "  cycle[how] = cycle[how] + 1\n",
            "  if how ~= 'completed' then cycle[how] = cycle[how] + 1 end\n",
            (CYCLE,),
        ),
        Guard(
            "an attempt that is not the last counts as nothing",
            "work/finish.lua",
            "    return ''\n  end\n  cycle[how]",
            "    how = 'failed'\n  end\n  cycle[how]",
            (RETRIES,),
        ),
        Guard(
            "a command that may not run twice is sent once",
            "redis/backlog.py",
            "return self.retry and not self.cancelled and self.sends < MAX_SENDS",
            "return not self.cancelled and self.sends < MAX_SENDS",
            (TRANSPORT, TRANSPORT_FAULTS),
        ),
        Guard(
            "an enqueue is not sent again",
            "resque/queue.py",
            (
                '    await transport.pipeline([("SADD", keys.queues, queue), ("RPUSH", '
                "keys.queue(queue), element)])"
            ),
            (
                '    await transport.pipeline([("SADD", keys.queues, queue), ("RPUSH", '
                "keys.queue(queue), element)], retry=True)"
            ),
            (CONNECTIONS, "-k", "enqueue"),
        ),
    ),
)
