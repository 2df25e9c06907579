"""A child is accounted once: completed + failed reaches total, and never passes it."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import ENQUEUE, EXECUTOR, FAN_OUT, MEMBERS, PAYLOAD, POOL, RECORDS, RETRIES

CHILDREN = Promise(
    "A child is accounted once",
    (
        Guard(
            "a child that ended before",
            "fanout/account.lua",
            "if redis.call('SETBIT', record.at .. ':done', index, 1) == 1 then return 'again' end",
            "redis.call('SETBIT', record.at .. ':done', index, 1)",
            (RECORDS,),
        ),
        Guard(
            "an index that was never handed out",
            "fanout/account.lua",
            ("if not index or index < 0 or index >= record.hwm or index % 1 ~= 0 then return 'foreign' end"),
            "",
            (RECORDS,),
        ),
        Guard(
            "an index that is too large to be one",
            "resque/payload.py",
            "or not 0 <= index < 2**32:",
            "or index < 0:",
            (PAYLOAD,),
        ),
        Guard(
            "a batch that was registered before",
            "fanout/register.lua",
            "if redis.call('GETBIT', record.at .. ':batches', batch) == 1 then",
            "if false then",
            (RECORDS,),
        ),
        Guard(
            "the highest index handed out never falls",
            "fanout/register.lua",
            "if hwm > record.hwm then redis.call",
            "redis.call",
            (RECORDS,),
        ),
        Guard(
            "the type of each queue is looked at first",
            "fanout/register.lua",
            ("  if not fits(keys.queue(queue), 'list') then return {'wrongtype', keys.queue(queue)} end\n"),
            "",
            (RECORDS,),
        ),
        Guard(
            "the types of all parts of a record are looked at first",
            "fanout/record.lua",
            "    if not fits(key, wanted) then return {code = 'wrongtype', key = key} end\n",
            "",
            (RECORDS,),
        ),
        Guard(
            "the numbers of a record are looked at first",
            "fanout/record.lua",
            "if #digits > 15 or not string.find(digits, '^%d+$') then",
            "if false then",
            (RECORDS,),
        ),
        Guard(
            "nothing joins a sealed fan-out",
            "fanout/register.lua",
            "if redis.call('HGET', record.at, 'sealed') ~= '0' then return {'sealed', record.at} end",
            "",
            (RECORDS,),
        ),
        Guard(
            "who registers must be a member",
            "fanout/open.lua",
            (
                "if redis.call('EXISTS', keys.process(owner)) == 0 then return {'no_owner', "
                "keys.process(owner)} end\n"
            ),
            "",
            (RECORDS,),
        ),
        Guard(
            "a rescue seals what its process registered",
            "work/dissolve.lua",
            "    seal_record(keys, id, 1)\n",
            "",
            (RECORDS,),
        ),
        Guard(
            "a seal is at what was registered",
            "fanout/seal_record.lua",
            "cut, 'total', registered)",
            "cut)",
            (RECORDS,),
        ),
        Guard(
            "a registrar that fails seals",
            "fanout/detached.py",
            "            await self._store.close(self.id, cut=not self._is_whole)\n        except",
            "            pass\n        except",
            (FAN_OUT,),
        ),
        Guard(
            "a registrar that is cancelled seals",
            "fanout/detached.py",
            "        except BaseException as error:\n",
            "        except Exception as error:\n",
            (FAN_OUT,),
        ),
        Guard(
            "an attempt that is not the last is not accounted",
            "work/finish.lua",
            (
                "    if child ~= '' then put_child_off(keys, child, words[from + 4], delay, "
                "cycle.touched) end\n"
                "    return ''\n"
            ),
            (
                "    if child ~= '' then account(keys, child, words[from + 4], false, '{}', "
                "cycle.touched) end\n"
                "    return ''\n"
            ),
            (RETRIES,),
        ),
        Guard(
            "a child that waits for another attempt has not started",
            "fanout/put_off.lua",
            "  redis.call('SETBIT', record.at .. ':started', index, 0)\n",
            "",
            (RETRIES,),
        ),
        Guard(
            "a child that went back has not started",
            "work/put_back.lua",
            "    if id then clear_started(keys, id, index, touched) end\n",
            "",
            (MEMBERS,),
        ),
        Guard(
            "an unreadable job may be a child",
            "work/performer.py",
            "        child = child_of(popped.raw)\n        if child is None:\n",
            "        child = child_of(popped.raw)\n        if True:\n",
            (POOL, "-k", "cannot_be_read"),
        ),
        Guard(
            "callers cannot name our fields in a fan-out",
            "fanout/record.py",
            "        refuse_reserved(inputs)\n",
            "",
            (FAN_OUT, "-k", "cannot_be_jobs"),
        ),
        Guard(
            "callers cannot name our fields in an enqueue",
            "jobs/drafts.py",
            "        payload.refuse_reserved(inputs)\n",
            "",
            (ENQUEUE,),
        ),
        Guard(
            "callers cannot name our fields in a call",
            "validation.py",
            "    if not trusted:\n        refuse_reserved(inputs)\n",
            "",
            (EXECUTOR,),
        ),
        Guard(
            "failed entries have no fields of ours",
            "resque/payload.py",
            "            return bare(text) if has_ours else text\n",
            "            return text\n",
            (PAYLOAD,),
        ),
    ),
)
