"""Schedules neither stop nor double: one run per interval, one promotion per job, one leader."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import CYCLE, DELAYED, MEMBERS, RECURRING, RETRIES, RULES, SCHEDULE, SCHEDULER

SCHEDULES = Promise(
    "Schedules neither stop nor double",
    (
        Guard(
            "only its leader moves delayed jobs",
            "work/promote.lua",
            "if redis.pcall('GET', keys.resque_leader) ~= process then return {'lost'} end",
            "",
            (DELAYED,),
        ),
        Guard(
            "only its leader moves retries",
            "work/promote_retries.lua",
            "if redis.pcall('GET', keys.leader) ~= process then return {'lost'} end",
            "",
            (RETRIES,),
        ),
        Guard(
            "only its leader starts recurring actions",
            "work/fire.lua",
            "if redis.pcall('GET', keys.leader) ~= process then return {'lost', ''} end",
            "",
            (RECURRING,),
        ),
        Guard(
            "only its leader writes schedules",
            "work/plan.lua",
            "if redis.pcall('GET', keys.leader) ~= process then return 'lost' end\n",
            "",
            (RECURRING,),
        ),
        Guard(
            "nobody takes another's leadership",
            "work/lead.lua",
            "  if leader and leader ~= process then return 'other' end\n",
            "",
            (SCHEDULER,),
        ),
        Guard(
            "who was taken for dead does not lead",
            "work/lead.lua",
            "if releases or not is_member then",
            "if releases then",
            (RULES,),
        ),
        Guard(
            "a leadership ends with its holder",
            "work/strike_off.lua",
            "    if redis.pcall('GET', leader) == process then redis.call('DEL', leader) end\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "the end of a process leaves another's leadership alone",
            "work/strike_off.lua",
            "if redis.pcall('GET', leader) == process then redis",
            "if true then redis",
            (MEMBERS,),
        ),
        Guard(
            "a run by the record that was read",
            "work/fire.lua",
            (
                "if (redis.call('HGET', keys.recurring, action) or '') ~= ARGV[5] then return "
                "{'changed', ''} end"
            ),
            "",
            (RECURRING,),
        ),
        Guard(
            "no run beside the last one",
            "work/fire.lua",
            "if redis.call('EXISTS', keys.guard(action)) == 1 then",
            "if false then",
            (RECURRING,),
        ),
        Guard(
            "a run that never ends holds the next ones up for a while only",
            "work/fire.lua",
            "ARGV[10] .. ' ' .. ARGV[11], 'PX', ARGV[11])",
            "ARGV[10] .. ' ' .. ARGV[11])",
            (RECURRING,),
        ),
        Guard(
            "the next run may start when the last one has ended",
            "work/effects.lua",
            "else redis.call('DEL', keys.guard(action)) end",
            "end",
            (CYCLE,),
        ),
        Guard(
            "the end of an old run leaves the guard of a new one",
            "work/effects.lua",
            "  if id ~= job_id then return end\n",
            "",
            (CYCLE,),
        ),
        Guard(
            "missed runs are one run",
            "work/schedule.py",
            "return record.due + max(0, now - record.due) // record.interval * record.interval",
            "return record.due",
            (SCHEDULE,),
        ),
        Guard(
            "a shorter interval is in force at once",
            "work/schedule.py",
            "due = min(due, last + interval) if last else due",
            "due = due",
            (SCHEDULE,),
        ),
        Guard(
            "a clock that was ahead does not stop a schedule",
            "work/schedule.py",
            "        due = now + interval\n",
            "        pass\n",
            (SCHEDULE,),
        ),
        Guard(
            "a retry leaves when it is promoted",
            "work/promote_retries.lua",
            "  redis.call('ZREM', keys.retry, raw)\n",
            "",
            (RETRIES,),
        ),
        Guard(
            "a retry is not early",
            "work/promote_retries.lua",
            "'-inf', ARGV[4], 'LIMIT', 0, 1)[1]",
            "'-inf', '+inf', 'LIMIT', 0, 1)[1]",
            (RETRIES,),
        ),
        Guard(
            "errors that another attempt would meet again",
            "work/retries.py",
            "isinstance(leaf, (*FINAL, *task.no_retry_on))",
            "isinstance(leaf, tuple(task.no_retry_on))",
            (RETRIES,),
        ),
        Guard(
            "a scheduler survives Redis",
            "work/scheduler.py",
            (
                "        except (RedisError, RedisUnavailable) as error:\n"
                "            if not isinstance(error, ConnectionLost):"
            ),
            (
                "        except ZeroDivisionError as error:\n"
                "            if not isinstance(error, ConnectionLost):"
            ),
            (SCHEDULER,),
        ),
        Guard(
            "the scheduler sleeps no longer than half a minute",
            "work/scheduler.py",
            "waits = [LONGEST, self._renew_at - trio.current_time()]",
            "waits = [1e9]",
            (SCHEDULER,),
        ),
    ),
)
