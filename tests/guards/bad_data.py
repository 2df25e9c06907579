"""Bad data stops nobody: what is not as it should be is kept or told of, and the rest goes on."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import BAD_INPUT, CYCLE, DEPTH, FAN_OUT_RECORD, MEMBERS, POOL, RECORDS, RULES, SCHEDULE

BAD_DATA = Promise(
    "Bad data stops nobody",
    (
        Guard(
            "a failed list that is no list",
            "work/effects.lua",
            "  redis.call('RPUSH', keys.stranded_failures, failure)\n",
            "",
            (CYCLE,),
        ),
        Guard("a queue that is no list", "work/pop.lua", "redis.pcall('LPOP'", "redis.call('LPOP'", (CYCLE,)),
        Guard(
            "a counter that is no number",
            "work/effects.lua",
            "redis.pcall('INCRBY'",
            "redis.call('INCRBY'",
            (CYCLE,),
        ),
        Guard(
            "a set of queues that is no set stops no rescue",
            "work/put_back.lua",
            "redis.pcall('SADD', keys.queues, job.queue)",
            "redis.call('SADD', keys.queues, job.queue)",
            (MEMBERS,),
        ),
        Guard(
            "a set of queues that is no set stops no look",
            "work/queues.lua",
            "redis.pcall('SMEMBERS', keys.queues)",
            "redis.call('SMEMBERS', keys.queues)",
            (CYCLE,),
        ),
        Guard(
            "a guard that is no text",
            "work/guard.lua",
            "redis.pcall('GET', keys.guard(action))",
            "redis.call('GET', keys.guard(action))",
            (CYCLE,),
        ),
        Guard(
            "one bad outcome leaves the others alone",
            "work/finish.lua",
            "  return (code == 'counted' or how == 'cancelled') and '' or code\n",
            "  if code ~= 'counted' then error(code) end\n  return ''\n",
            (RECORDS,),
        ),
        Guard(
            "jobs in flight that are no hash",
            "work/cycle.lua",
            "redis.call('HLEN', keys.inflight(process)) -- an",
            "-- an",
            (BAD_INPUT, "-k", "jobs_wait"),
        ),
        Guard(
            "a schedule's record that is none",
            "work/schedule.py",
            (
                "    except (ValueError, RecursionError):\n"
                "        return None\n"
                "    if not isinstance(values, dict):\n"
                "        return None\n"
            ),
            "    except ZeroDivisionError:\n        return None\n",
            (SCHEDULE,),
        ),
        Guard(
            "jobs of any size: one reply has so many bytes",
            "work/pop.lua",
            "or cycle.bytes >= MAX_BYTES or",
            "or",
            (CYCLE,),
        ),
        Guard(
            "one exchange has so many bytes of outcomes",
            "work/outbox.py",
            "if size > MAX_BYTES and number:",
            "if False:",
            (RULES,),
        ),
        Guard(
            "a batch has so many bytes",
            "fanout/record.py",
            " or self._bytes + weight > self._max_bytes",
            "",
            (FAN_OUT_RECORD,),
        ),
        Guard(
            "a rescue goes in slices",
            "work/dissolve.lua",
            "  if seen == most then break end\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "an element that is no job fails alone",
            "work/performer.py",
            "        except JobError as error:\n            self._events",
            "        except ZeroDivisionError as error:\n            self._events",
            (POOL,),
        ),
        Guard(
            "queues behind * take turns",
            "work/turns.lua",
            "math.ceil(#cycle.free / #queues)",
            "#cycle.free",
            (CYCLE,),
        ),
        Guard(
            "a list of many queues is read in pieces",
            "work/queues.lua",
            "local CHUNK = 1000",
            "local CHUNK = 100000",
            (CYCLE,),
        ),
        Guard(
            "inputs that no worker can read are refused",
            "resque/payload.py",
            "        check_depth(text, around=4)\n",
            "",
            (DEPTH,),
        ),
        Guard(
            "inputs have room for what is put around them",
            "resque/payload.py",
            "check_depth(text, around=4)",
            "check_depth(text)",
            (DEPTH,),
        ),
        Guard(
            "inputs may be as deep as a worker can read",
            "resque/payload.py",
            "        from_json(f",
            "        raise ValueError(f",
            (DEPTH,),
        ),
        Guard(
            "inputs that cannot be written are refused",
            "resque/payload.py",
            "except (TypeError, ValueError, RecursionError) as error:",
            "except (TypeError, ValueError) as error:",
            (DEPTH,),
        ),
        Guard(
            "a child that cannot be read is known by its bytes",
            "resque/payload.py",
            "        ours = _CHILD_WE_CANNOT_READ.match(raw)\n",
            "        ours = None\n",
            (DEPTH,),
        ),
        Guard(
            "a result that nobody could read is none",
            "fanout/entries.py",
            "        check_depth(encoded)\n",
            "        pass\n",
            (DEPTH,),
        ),
        Guard(
            "a result may be as deep as it can be read",
            "fanout/entries.py",
            "        check_depth(encoded)\n",
            '        raise ValueError("recursion")\n',
            (DEPTH,),
        ),
    ),
)
