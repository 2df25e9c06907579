"""Operators get at jobs that wait for a lock; "all" is said, and no more is meant by a word than it says."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import ADMIN, LINES, OPERATE_COMMAND, OPERATE_FAILED, OPERATE_QUEUES, SHOWN

WAITING_JOBS = Promise(
    "Jobs that wait for a lock are seen, and are deleted with their queue",
    (
        Guard(
            "who clears a queue clears its lines",
            "operate/queues.py",
            "await delete_waiting(self._transport, self._keys, _bytes(queue), _any, None)",
            "0",
            (LINES,),
        ),
        Guard(
            "who deletes from a queue deletes from its lines",
            "operate/queues.py",
            "await delete_waiting(self._transport, self._keys, _bytes(queue), match, most)",
            "0",
            (LINES,),
        ),
        Guard(
            "a line may have jobs of a queue that is called alike",
            "operate/lines.py",
            "parts is not None and parts[0] == queue and match",
            "parts is not None and match",
            (LINES,),
        ),
        Guard(
            "a child that waits for a lock and is deleted is counted",
            "operate/taken.lua",
            "  drop_child(keys, raw, work.touched)\n  free_place_of(keys, 'queue:' .. queue, raw)\n",
            "  free_place_of(keys, 'queue:' .. queue, raw)\n",
            (LINES,),
        ),
        Guard(
            "one that waits for a lock and is deleted keeps nothing out",
            "operate/taken.lua",
            "  free_place_of(keys, 'queue:' .. queue, raw)\n",
            "",
            (LINES,),
        ),
        Guard(
            "nobody waits for a lock whose line is deleted",
            "operate/taken.lua",
            "then redis.pcall('ZREM', keys.blocked, lock) end",
            "then end",
            (LINES,),
        ),
        Guard(
            "a lock that nobody has any more is seen while jobs wait",
            "operate/locks.py",
            "self._left = await self._free(await anext(self._lines))",
            "raise StopAsyncIteration",
            (LINES,),
        ),
        Guard(
            "a child that is awaited is tried again as what it is",
            "operate/taken.lua",
            "if bare ~= '' and not is_awaited(keys, raw) then",
            "if bare ~= '' then",
            (OPERATE_FAILED, "-k", "counted_once"),
        ),
        Guard(
            "a child that has ended is tried again for itself",
            "operate/taken.lua",
            "if bare ~= '' and not is_awaited(keys, raw) then",
            "if false then",
            (OPERATE_FAILED, "-k", "counted_once"),
        ),
    ),
)

WORDS = Promise(
    "No more is chosen than was said",
    (
        Guard(
            "an empty text is not in all failed jobs, over HTTP",
            "builtin/failed.py",
            '        None, min_length=1, description="With this text',
            '        None, description="With this text',
            (ADMIN, "-k", "empty_text"),
        ),
        Guard(
            "an empty text is not in all failed jobs, at the terminal",
            "cli/parameters.py",
            '    if value == "":\n',
            "    if False:\n",
            (OPERATE_COMMAND, "-k", "empty_text"),
        ),
        Guard(
            "true is not 1",
            "operate/jobs.py",
            "isinstance(one, bool) == isinstance(other, bool)",
            "True",
            (OPERATE_QUEUES, "-k", "equal_as_json"),
        ),
        Guard(
            "no number is infinite in JSON",
            "operate/shown.py",
            r"|\d[eE]|\d{309}",
            r"|\d[eE]\+?\d{3}",
            (SHOWN,),
        ),
        Guard(
            "JSON at the terminal has nothing that it obeys",
            "cli/output.py",
            r"[\x7f-\x9f\u202a",
            r"[\x7f\u202a",
            (OPERATE_COMMAND, "-k", "obeys"),
        ),
    ),
)
