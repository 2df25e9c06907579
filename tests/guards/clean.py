"""Nothing stays without an owner or a TTL: what a process or a fan-out has in Redis goes with it."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import CYCLE, LUA_MODEL, MEMBERS, RECORDS, RECURRING, RULES, TRIMMING

CLEAN = Promise(
    "Nothing stays without an owner or a TTL",
    (
        Guard(
            "all parts of a record expire",
            "fanout/touch.lua",
            "redis.call('PEXPIRE', record.at .. ':' .. part, record.ttl)",
            "redis.call('EXISTS', record.at)",
            (RECORDS,),
        ),
        Guard(
            "a child that ends renews its record",
            "fanout/account.lua",
            "  touched[id] = true\n",
            "",
            (RECORDS,),
        ),
        Guard(
            "a child that starts renews its record",
            "fanout/started.lua",
            "  touched[id] = true\n",
            "",
            (RECORDS,),
        ),
        Guard(
            "a child that waits for long keeps its record for longer",
            "fanout/put_off.lua",
            "    redis.call('HSET', record.at, 'ttl', ttl)\n",
            "",
            (LUA_MODEL,),
        ),
        Guard(
            "a child that runs for long keeps its record",
            "work/pool.py",
            "            nursery.start_soon(self._keep_fan_outs)\n",
            "",
            (RULES, "-k", "lives_as_long"),
        ),
        Guard(
            "no record is made anew",
            "fanout/account.lua",
            "  if record.code then return record.code end\n",
            (
                "  if record.code and record.code ~= 'gone' then return record.code end\n"
                "  record.hwm, record.ttl = record.hwm or 9, record.ttl or 9\n"
            ),
            (RECORDS,),
        ),
        Guard(
            "a cleared bit makes no key",
            "fanout/started.lua",
            "if redis.call('GETBIT', bits, index) ~= bit then redis",
            "if true then redis",
            (MEMBERS,),
        ),
        Guard(
            "a process goes with all its keys",
            "work/strike_off.lua",
            (
                "  redis.call('DEL', keys.process(process), keys.inflight(process), "
                "keys.owned(process), keys.lease(process),\n    keys.locks_of(process))\n"
            ),
            "",
            (CYCLE,),
        ),
        Guard(
            "what workers work on goes with its job",
            "work/move.lua",
            "  redis.call('DEL', unpack(records))\n",
            "",
            (CYCLE,),
        ),
        Guard(
            "the name of a process that is gone goes too",
            "work/rescue.py",
            '        if ended.code == "gone":\n',
            "        if False:\n",
            (MEMBERS,),
        ),
        Guard(
            "a schedule that nobody knows ends",
            "work/recurring.py",
            '                words += (name.encode("utf-8", "surrogateescape"), raw, b"")\n',
            "                pass\n",
            (RECURRING,),
        ),
        Guard(
            "too many failures are dropped",
            "work/trim_failed.lua",
            "if excess > 0 then redis.call('LTRIM', keys.failed, excess, -1) end\n",
            "",
            (TRIMMING,),
        ),
    ),
)
