"""Several processes of one start are as safe as one: crashes, rolls and the end of the supervisor."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import (
    LEAVING,
    PLACES,
    SEVERAL_CRASH,
    SEVERAL_END,
    SEVERAL_METRICS,
    SEVERAL_ROLL,
    SEVERAL_START,
)

SUPERVISED = Promise(
    "Several processes of one start",
    (
        Guard(
            "who has connected to one that leaves is served",
            "web/serve.py",
            "            nursery.start_soon(settle)\n",
            "            draining.set()\n",
            (LEAVING, "-k", "just_connected"),
        ),
        Guard(
            "an answer of one that leaves is the last",
            "web/leaving.py",
            'message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}',
            "pass",
            (LEAVING, "-k", "last or once_more"),
        ),
        Guard(
            "without a supervisor all end",
            "processes/member.py",
            '        obedience.drain("stopping: the supervisor is gone")\n',
            "        pass\n",
            (SEVERAL_END, "-k", "supervisor_is_killed"),
        ),
        Guard(
            "one that crashes is replaced",
            "processes/supervisor.py",
            "            self._nursery.start_soon(self._replace, seat, child)\n",
            "            pass\n",
            (SEVERAL_CRASH, "-k", "killed_process"),
        ),
        Guard(
            "crashes have an end",
            "processes/supervisor.py",
            "        if seat.is_hopeless:\n",
            "        if False:\n",
            (SEVERAL_CRASH, "-k", "again_and_again"),
        ),
        Guard(
            "a broken release does not take a place",
            "processes/roll.py",
            "            if new is None or new.rows is None:\n",
            "            if new is None:\n",
            (SEVERAL_ROLL, "-k", "broken"),
        ),
        Guard(
            "one that does not come up is given up",
            "processes/supervisor.py",
            "        if not child.settled.is_set():\n            child.problem",
            "        if False:\n            child.problem",
            (SEVERAL_ROLL, "-k", "not_come_up"),
        ),
        Guard(
            "what cannot start is told once",
            "processes/supervisor.py",
            "        if self.stopping.is_set():\n            return\n        if child is not None",
            "        if child is not None",
            (SEVERAL_START, "-k", "cannot_start"),
        ),
        Guard(
            "nobody waits for processes that do not accept",
            "processes/supervisor.py",
            "        self.stopping.set()\n        self.close_door()\n",
            "        self.stopping.set()\n",
            (SEVERAL_END, "-k", "nothing_else_begins"),
        ),
        Guard(
            "one that does not end is killed",
            "processes/supervisor.py",
            "                nursery.start_soon(self.ended, child)\n",
            "                pass\n",
            (SEVERAL_END, "-k", "does_not_end_is"),
        ),
        Guard(
            "programs inherit nothing of a place",
            "processes/place.py",
            "        os.set_inheritable(descriptor, False)\n",
            "        pass\n",
            (PLACES, "-k", "leaves_nothing"),
        ),
        Guard(
            "a signal to a process is not the supervisor's",
            "processes/member.py",
            "        signal.signal(signal.SIGHUP, _nothing)\n",
            "        pass\n",
            (SEVERAL_ROLL, "-k", "broken"),
        ),
        Guard(
            "a slow process does not hold a scrape up",
            "processes/gathering.py",
            "with trio.move_on_after(PATIENCE), suppress(OSError, trio.BrokenResourceError, ValueError):",
            "with suppress(OSError, trio.BrokenResourceError, ValueError):",
            (SEVERAL_METRICS, "-k", "left_out"),
        ),
    ),
)
