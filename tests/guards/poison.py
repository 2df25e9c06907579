"""A poison job stops nobody else: a job that kills its process runs alone, and is given up in the end."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import MEMBERS, POISONED

POISON = Promise(
    "A poison job stops nobody else",
    (
        Guard(
            "a suspect is the last that is taken",
            "work/pop.lua",
            " or cycle.suspect or ",
            " or ",
            (POISONED,),
        ),
        Guard(
            "what was popped behind a suspect goes back",
            "work/suspects.lua",
            (
                "      for _ = at + 1, #raws do redis.call('LPUSH', keys.queue(queue), "
                "table.remove(raws)) end\n"
            ),
            "",
            (POISONED,),
        ),
        Guard(
            "deaths are forgotten in an hour",
            "work/suspects.lua",
            "\n  redis.call('PEXPIRE', keys.deaths, REMEMBERED)\n",
            "\n",
            (POISONED,),
        ),
        Guard(
            "one death beside others is nothing",
            "work/suspects.lua",
            "return alone > 0 or beside > 1",
            "return alone > 0 or beside > 0",
            (POISONED,),
        ),
        Guard(
            "a death beside others is none alone",
            "work/suspects.lua",
            "job.raw, #ran == 1, before)",
            "job.raw, true, before)",
            (POISONED,),
        ),
        Guard(
            "equal jobs that die together die once",
            "work/suspects.lua",
            "    noted[job.raw] = true\n",
            "",
            (POISONED,),
        ),
        Guard(
            "a long run is remembered by the record of its process",
            "work/suspects.lua",
            "alone = math.max(alone, before) + 1",
            "alone = alone + 1",
            (POISONED,),
        ),
        Guard(
            "any end clears the suspicion",
            "work/finish.lua",
            "  if cycle.wary then forget_deaths(keys, (select(3, inflight_parts(entry)))) end\n",
            "",
            (POISONED,),
        ),
        Guard(
            "who leaves blames nobody",
            "work/dissolve.lua",
            "if ARGV[3] ~= 'leave' and record[1]",
            "if record[1]",
            (POISONED,),
        ),
        Guard(
            "only the first slice of a rescue blames",
            "work/dissolve.lua",
            "and record[1] and not begun then",
            "and record[1] then",
            (POISONED,),
        ),
        Guard(
            "who is proven dead has died",
            "work/rescue.py",
            'self._rescue(id, "dead")',
            'self._rescue(id, "leave")',
            (MEMBERS,),
        ),
        Guard(
            "a suspect starts when the others have ended",
            "work/shift.py",
            "return not self._slots.running or self._suspect.is_overlong",
            "return True",
            (POISONED,),
        ),
        Guard(
            "a suspect is not waited for without end",
            "work/suspect.py",
            "and trio.current_time() >= self.until",
            "and False",
            (POISONED,),
        ),
        Guard(
            "nothing is taken beside a suspect",
            "work/shift.py",
            "return hungry and self._suspect.job is None",
            "return hungry",
            (POISONED,),
        ),
        Guard(
            "a suspect that waits is held",
            "work/shift.py",
            "            running.append((suspect.slot, suspect.token))\n",
            "            pass\n",
            (POISONED,),
        ),
        Guard(
            "a job that is given up is not run",
            "work/performer.py",
            "return popped.deaths is not None and 0 < self._max_deaths <= popped.deaths",
            "return False",
            (POISONED,),
        ),
        Guard(
            "a poison job is not retried",
            "work/retries.py",
            "FINAL = (InvalidInput, UnknownAction, JobError, PoisonJob,",
            "FINAL = (InvalidInput, UnknownAction, JobError,",
            (POISONED,),
        ),
        Guard(
            "the memory of deaths may be somebody else's key",
            "work/deaths.lua",
            "type(redis.pcall('HSET', keys.deaths",
            "type(redis.call('HSET', keys.deaths",
            (POISONED,),
        ),
        Guard(
            "who lives takes back what was noted",
            "work/join.lua",
            "if ARGV[7] ~= '' then take_back(keys, ARGV[7]) end\n",
            "",
            (POISONED,),
        ),
        Guard(
            "it is not taken back for ever",
            "work/deaths.lua",
            " and returns < MOST_RETURNS",
            "",
            (POISONED,),
        ),
        Guard(
            "a suspect does not keep others waiting for ever",
            "work/shift.py",
            "            elif self._suspect.is_overlong:\n",
            "            elif False:\n",
            (POISONED,),
        ),
    ),
)
