"""A job runs at least once: no job that was accepted is lost, whoever dies."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import (
    BAD_INPUT,
    CYCLE,
    DELAYED,
    DOORBELL,
    HEARTBEAT,
    KILL,
    MEMBERS,
    POISONED,
    POOL,
    RETRIES,
    RULES,
)

RUNS_AT_LEAST_ONCE = Promise(
    "A job runs at least once",
    (
        Guard(
            "a reconnect asks what is held",
            "work/shift.py",
            "if self._in_doubt or self._crew.transport.generation != self._generation:",
            "if self._in_doubt:",
            (RULES,),
        ),
        Guard(
            "an idle pool notices a reconnect",
            "work/shift.py",
            "                nursery.start_soon(self._notice_reconnects)\n",
            "",
            (RULES,),
        ),
        Guard(
            "a doubt asks what is held",
            "work/shift.py",
            (
                "if self._in_doubt or self._crew.transport.generation != self._generation:\n"
                "                await"
            ),
            "if self._crew.transport.generation != self._generation:\n                await",
            (POOL, "-k", "nobody_listens"),
        ),
        Guard(
            "strays go back",
            "work/reconcile.lua",
            "    put_back(keys, process, queues, job, problems)\n    strays = strays + 1",
            "    strays = strays + 1",
            (CYCLE,),
        ),
        Guard(
            "a doubt ends with another look",
            "work/shift.py",
            ("        self._generation, self._in_doubt = generation, False\n        self._hungry = True\n"),
            "        self._generation, self._in_doubt = generation, False\n",
            (POOL, "-k", "nobody_listens"),
        ),
        Guard(
            "who lives is not rescued",
            "work/dissolve.lua",
            "redis.call('EXISTS', keys.lease(process)) == 1 then",
            "false then",
            (RULES,),
        ),
        Guard(
            "a lapsed lease is renewed while the record stands",
            "work/heartbeat.lua",
            "redis.call('PEXPIRE', keys.lease(ARGV[2]), ARGV[3])",
            (
                "if redis.call('PEXPIRE', keys.lease(ARGV[2]), ARGV[3]) == 0 then return 'gone' end\n"
                "redis.call('PEXPIRE', keys.lease(ARGV[2]), ARGV[3])"
            ),
            (MEMBERS,),
        ),
        Guard(
            "jobs go back to the head",
            "work/put_back.lua",
            "redis.pcall('LPUSH', keys.queue(job.queue)",
            "redis.pcall('RPUSH', keys.queue(job.queue)",
            (MEMBERS,),
        ),
        Guard(
            "jobs go back in their order",
            "work/put_back.lua",
            "if one.token ~= other.token then return one.token > other.token end",
            "",
            (MEMBERS,),
        ),
        Guard(
            "a job whose queue is no list is kept",
            "work/put_back.lua",
            "    redis.call('LPUSH', keys.stranded_jobs, job.raw)\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "a queue is known again when its jobs go back",
            "work/put_back.lua",
            "  redis.pcall('SADD', keys.queues, job.queue)\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "a ring during a look is another look",
            "work/shift.py",
            (
                "            self._hungry = False  # before the look: a ring from now on asks "
                "for another one\n"
                "        reply = await self._cycle.exchange(outcomes, free, self._crew.clock())\n"
            ),
            (
                "            pass\n"
                "        reply = await self._cycle.exchange(outcomes, free, self._crew.clock())\n"
                "        self._hungry = self._hungry and not free\n"
            ),
            (POOL, "-k", "not_overlooked"),
        ),
        Guard(
            "listening begins before a last look",
            "work/shift.py",
            "        self._listening = self._hungry = True\n",
            "        self._listening = True\n",
            (POOL, "-k", "armed_again"),
        ),
        Guard(
            "the server sends heartbeats",
            "runtime.py",
            'nursery.start_soon(partial(supervise, "heartbeat", membership.run, events=events))',
            "pass",
            (HEARTBEAT,),
        ),
        Guard(
            "the server looks for dead processes",
            "runtime.py",
            'nursery.start_soon(partial(supervise, "rescue", rescuer.run, events=events))',
            "pass",
            (KILL, "-k", "killed_process_is_missed"),
        ),
        Guard(
            "a sweep survives Redis",
            "work/rescue.py",
            "except RedisError as error:\n            if isinstance",
            "except ZeroDivisionError as error:\n            if isinstance",
            (MEMBERS,),
        ),
        Guard(
            "one process that cannot be rescued does not save the others",
            "work/rescue.py",
            "            except ResponseError as error:\n                problem = problem or error",
            "            except ZeroDivisionError as error:\n                problem = problem or error",
            (BAD_INPUT,),
        ),
        Guard(
            "a record that somebody deleted: its jobs go back",
            "work/dissolve.lua",
            "if not slots then slots, queues = traces(keys, process) end",
            "",
            (POISONED,),
        ),
        Guard(
            "the dead of this machine are looked for at once",
            "work/rescue.py",
            "        proven = True\n",
            "        proven = False\n",
            (MEMBERS,),
        ),
        Guard(
            "another container proves nothing",
            "work/identity.py",
            '(record.get("boot"), record.get("space")) == (self.boot, self.space)',
            'record.get("boot") == self.boot',
            (MEMBERS,),
        ),
        Guard(
            "a number that lives on is compared by its start",
            "work/identity.py",
            "_started(int(pid)) != since",
            '_started(int(pid)) == ""',
            (MEMBERS,),
        ),
        Guard(
            "after an outage the living come first",
            "work/rescue.py",
            "LOOKS_SAT_OUT\n        self._sits",
            "0\n        self._sits",
            (MEMBERS,),
        ),
        Guard(
            "at its start the living come first",
            "work/rescue.py",
            "        self._sits_out = LOOKS_SAT_OUT\n\n",
            "        self._sits_out = 0\n\n",
            (MEMBERS,),
        ),
        Guard(
            "while it sits out nobody is taken for dead",
            "work/rescue.py",
            "await self.sweep(proven=proven, lapsed=lapsed)",
            "await self.sweep(proven=proven, lapsed=True)",
            (MEMBERS,),
        ),
        Guard(
            "who was fenced joins under another id",
            "work/membership.py",
            "        self.id, self._former = None, id\n",
            "        self._former = id\n",
            (MEMBERS,),
        ),
        Guard(
            "what fails while a shutdown cancels it has not failed",
            "work/performer.py",
            "            await trio.lowlevel.checkpoint_if_cancelled()\n",
            "            pass\n",
            (POOL, "-k", "clean_up"),
        ),
        Guard(
            "a pool that crashes gives its jobs back",
            "runtime.py",
            "            await give_back(membership)  # noqa: ASYNC120  (it shields itself)\n",
            "",
            (POOL,),
        ),
        Guard(
            "at the end what finished is handed in",
            "work/shift.py",
            "                await self._hand_in_the_rest()\n",
            "                pass\n",
            (POOL,),
        ),
        Guard(
            "a thread that outlives its deadline keeps its slot",
            "work/shift.py",
            "            await lingering.wait()  # its outcome",
            "            pass  # its outcome",
            (POOL,),
        ),
        Guard(
            "a delayed job whose queue is no list waits on",
            "work/delayed_job.lua",
            "    postpone(keys, pass, raw)\n",
            "    local _ = 1\n",
            (DELAYED,),
        ),
        Guard(
            "a retry whose queue is no list waits on",
            "work/promote_retries.lua",
            "    redis.call('ZADD', keys.retry, ARGV[4] + POSTPONED * 1000, raw)\n    return\n",
            "    local _ = 1\n",
            (RETRIES,),
        ),
        Guard(
            "a doorbell that was lost rings",
            "redis/doorbell.py",
            "        self._tracking = False\n        self.ring()\n",
            "        self._tracking = False\n",
            (DOORBELL,),
        ),
    ),
)
