"""A full Redis is drained: scripts that end jobs begin with a write that a full Redis lets pass."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import MEMBERS, OPERATING, RECORDS, RECURRING, RULES, WATCHING

FULL_REDIS = Promise(
    "A full Redis is drained",
    (
        Guard(
            "an exchange",
            "work/cycle.lua",
            "redis.call('PEXPIRE', keys.lease(process), ARGV[3])\n",
            "redis.call('SET', keys.lease(process), 1, 'PX', ARGV[3])\n",
            (MEMBERS,),
        ),
        Guard(
            "a heartbeat",
            "work/heartbeat.lua",
            "redis.call('PEXPIRE', keys.lease(ARGV[2]), ARGV[3]) -- first",
            "local _ = 1 -- first",
            (RULES,),
        ),
        Guard(
            "joining",
            "work/join.lua",
            "redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first",
            "local _ = 1 -- first",
            (MEMBERS,),
        ),
        Guard(
            "retries that are due",
            "work/promote_retries.lua",
            "redis.call('PEXPIRE', keys.lease(process), ARGV[3])",
            "local _ = 1",
            (RULES,),
        ),
        Guard(
            "leading",
            "work/lead.lua",
            "redis.call('PEXPIRE', keys.lease(process), ARGV[3])",
            "local _ = 1",
            (RULES,),
        ),
        Guard(
            "recurring actions",
            "work/fire.lua",
            "redis.call('PEXPIRE', keys.lease(process), ARGV[3])",
            "local _ = 1",
            (RECURRING,),
        ),
        Guard(
            "sealing",
            "fanout/seal_record.lua",
            (
                "  touch_all(keys, {[id] = true}) -- first, since a full Redis refuses to begin "
                "with the others\n"
            ),
            "",
            (RECORDS,),
        ),
        Guard(
            "watching",
            "fanout/status.lua",
            "  redis.call('PEXPIRE', keys.news(''), 1) --",
            "  --",
            (WATCHING, "-k", "full"),
        ),
        Guard(
            "waiting for room",
            "fanout/register.lua",
            "  redis.call('PEXPIRE', keys.news(''), 1) --",
            "  --",
            (WATCHING, "-k", "full"),
        ),
        Guard(
            "progress of children",
            "fanout/note.lua",
            "redis.call('PEXPIRE', keys.news(''), 1) --",
            "--",
            (WATCHING, "-k", "full"),
        ),
        Guard(
            "a Redis that evicts is warned of",
            "runtime.py",
            "        await warn_of_eviction(runtime.transport)\n",
            "",
            (OPERATING, "-k", "may_evict"),
        ),
    ),
)
