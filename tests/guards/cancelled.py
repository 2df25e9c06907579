"""A cancelled fan-out ends: its children are counted once, never run again, and who waits is told."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import CANCEL_RECORDS, CANCELLED_CHILDREN

CANCELLED = Promise(
    "A cancelled fan-out ends",
    (
        Guard(
            "children that run are not cancelled at once",
            "fanout/cancel_record.lua",
            "waiting, at .. ':started', at .. ':done')",
            "waiting, at .. ':done', at .. ':done')",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children that have ended are not cancelled",
            "fanout/cancel_record.lua",
            "waiting, at .. ':started', at .. ':done')",
            "waiting, at .. ':started', at .. ':started')",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "only what was registered is cancelled",
            "fanout/cancel_record.lua",
            "  redis.call('BITOP', 'AND', waiting, children, waiting)\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "what waits is what neither runs nor has ended",
            "fanout/cancel_record.lua",
            "  redis.call('BITOP', 'XOR', waiting, children, waiting)\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children that are cancelled have ended",
            "fanout/cancel_record.lua",
            "ipairs({':done', ':cancelled'})",
            "ipairs({':cancelled'})",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children that were cancelled before stay so",
            "fanout/cancel_record.lua",
            "'OR', at .. part, at .. part, waiting)",
            "'OR', at .. part, waiting, waiting)",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a cancellation comes once",
            "fanout/cancel_record.lua",
            "  if record.is_cancelled then return 'again' end\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "what has finished cannot be cancelled",
            "fanout/cancel_record.lua",
            (
                "  if sealed == '1' and completed + failed >= tonumber(registered) then "
                "return 'finished' end\n"
            ),
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a full Redis lets a cancellation pass",
            "fanout/cancel_record.lua",
            (
                "  touch_all(keys, {[id] = true}) -- first, since a full Redis refuses to "
                "begin with the others\n"
            ),
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "what a cancellation makes has a TTL",
            "fanout/cancel_record.lua",
            "  touch_all(keys, {[id] = true})\n  tell_all",
            "  tell_all",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "who waits hears of a cancellation",
            "fanout/cancel_record.lua",
            "  tell_all(keys, {[id] = true})\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "processes hear of a cancellation",
            "fanout/cancel_record.lua",
            (
                "  redis.call('SET', keys.cancelled(id), 1, 'PX', record.inbox ~= '' and "
                "KNOWN_FOR or KNOWN_FOR_LONG)\n"
            ),
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a detached cancellation outlives its record",
            "fanout/cancel_record.lua",
            "record.inbox ~= '' and KNOWN_FOR or KNOWN_FOR_LONG",
            "KNOWN_FOR",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a cancelled fan-out stays its waiting owner's",
            "fanout/cancel_record.lua",
            "  if record.inbox == '' then redis.pcall('SREM'",
            "  if true then redis.pcall('SREM'",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a cancelled fan-out of nobody has no owner",
            "fanout/cancel_record.lua",
            "  if record.inbox == '' then redis.pcall('SREM'",
            "  if false then redis.pcall('SREM'",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a sealed fan-out stays its waiting owner's",
            "fanout/seal_record.lua",
            "if record.inbox == '' then redis.pcall('SREM'",
            "if true then redis.pcall('SREM'",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a failure is told at once",
            "fanout/account.lua",
            "  record.urgent = record.urgent or how == 'failed'\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "a child that ends cancelled is marked",
            "fanout/account.lua",
            "    redis.call('SETBIT', record.at .. ':cancelled', index, 1)\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a child that ends cancelled has ended",
            "fanout/account.lua",
            "    redis.call('HINCRBY', record.at, 'failed', 1)\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "the end of all is told at once",
            "fanout/news.lua",
            "(record.urgent or is_finished) and 'now'",
            "record.urgent and 'now'",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "an end is told once for each time that it was asked for",
            "fanout/news.lua",
            "    if not is_owner or record.has_news then redis.call('SREM', watchers, inbox) end\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "an exchange tells who waits",
            "work/cycle.lua",
            "tell_all(keys, cycle.touched)\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "nothing joins a cancelled fan-out",
            "fanout/register.lua",
            "if record.is_cancelled then return {'cancelled', record.at} end\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children go ahead of other parents",
            "fanout/register.lua",
            "local place = group.queue == front and push_in_front or push",
            "local place = push",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children at the head keep their order",
            "fanout/register.lua",
            "for job = last, first, -1 do",
            "for job = first, last do",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "gaps among the children are none",
            "fanout/register.lua",
            (
                "for run = 7, first_group - 1, 2 do set_range(record.at .. ':children', "
                "tonumber(ARGV[run]), tonumber(ARGV[run + 1])) end"
            ),
            "set_range(record.at .. ':children', tonumber(ARGV[7]), hwm)",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a full Redis lets who waits look",
            "fanout/follow.lua",
            "redis.call('PEXPIRE', keys.news(''), 1) --",
            "--",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "only the owner follows",
            "fanout/follow.lua",
            " or redis.call('SISMEMBER', owned, id) == 0 then",
            " then",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a child that nobody can wait for is not run",
            "fanout/void.lua",
            "is_attached(id) or redis.call",
            "redis.call",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a cancelled child is not run when its record has expired",
            "fanout/void.lua",
            "is_attached(id) or redis.call('EXISTS', keys.cancelled(id)) == 1",
            "is_attached(id)",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a child that nobody wants is not tried again",
            "work/finish.lua",
            "return child ~= '' and is_void(keys, child) and 'cancelled' or 'again' end",
            "return 'again' end",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a child without an entry was cancelled",
            "work/finish.lua",
            "  if child ~= '' and entry == '' then return 'cancelled' end\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children that nobody wants get no slot",
            "work/drop.lua",
            "if id and is_void(keys, id) then",
            "if false then",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "so many are dropped at a time",
            "work/pop.lua",
            " or cycle.dropped >= MAX_DROPPED\n",
            "\n",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "what was cut is looked at again",
            "work/cycle.lua",
            "local cut = cycle.dropped >= MAX_DROPPED and 1 or 0",
            "local cut = 0",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "jobs that were cancelled are counted",
            "work/effects.lua",
            ", cancelled = cycle.cancelled}",
            "}",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "children that nobody wants do not go back",
            "work/put_back.lua",
            "  if not id or not ends_here(keys, id, index, touched) then\n",
            "  if true then\n",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a child that does not go back is counted",
            "work/ends_here.lua",
            "  account(keys, id, index, 'cancelled', '', touched)\n",
            "",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a reconcile tells who waits",
            "work/reconcile.lua",
            "tell_all(keys, touched)\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "a rescue tells who waits",
            "work/dissolve.lua",
            "tell_all(keys, touched)\n",
            "",
            (CANCELLED_CHILDREN, "-k", "is_told"),
        ),
        Guard(
            "a rescue cancels what its process waited for",
            "work/dissolve.lua",
            "    cancel_record(keys, id)\n",
            "    seal_record(keys, id, 1)\n",
            (CANCEL_RECORDS,),
        ),
        Guard(
            "a rescue cancels before jobs go back",
            "work/dissolve.lua",
            (
                "if fits(owned, 'set') and redis.call('EXISTS', owned) == 1 then return "
                "{'more', moved, problems, suspected} end\n"
            ),
            "",
            (CANCEL_RECORDS,),
        ),
    ),
)
