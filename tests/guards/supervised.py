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

RELEASES = "tests/unit/test_process_releases.py"

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
            "a report of another kind ends a roll",
            "processes/child.py",
            "            self.problem = FOREIGN\n            self.settled.set()\n",
            "            self.rows = {}\n            self.settled.set()\n",
            (SEVERAL_ROLL, "-k", "whatever_a_new_one"),
        ),
        Guard(
            "numbers of another release are looked at",
            "processes/gathering.py",
            "if _goes_with(kinds, page)}",
            "if page is not None}",
            (RELEASES, "-k", "not_understood"),
        ),
        Guard(
            "who leaves has the grace of its own settings",
            "processes/supervisor.py",
            "(self._settings.tasks.grace if child.grace is None else child.grace)",
            "self._settings.tasks.grace",
            (RELEASES, "-k", "own_grace"),
        ),
        Guard(
            "SIGHUP waits for the supervisor",
            "cli/start.py",
            "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\n",
            "    pass\n",
            (SEVERAL_ROLL, "-k", "too_early"),
        ),
        Guard(
            "0 has a supervisor",
            "cli/start.py",
            "        if settings.server.processes != 1:\n",
            "        if settings.server.processes > 1:\n",
            (SEVERAL_START, "-k", "on_one_core"),
        ),
        Guard(
            "nothing outlives the supervisor",
            "cli/start.py",
            "    member.arm()\n",
            "    pass\n",
            (SEVERAL_END, "-k", "still_loading"),
        ),
        Guard(
            "nor does what does not end",
            "processes/member.py",
            "        os._exit(1)  # in time, it has ended by now\n",
            "        pass\n",
            (SEVERAL_END, "-k", "ended_without"),
        ),
        Guard(
            "who leaves in order is no crash",
            "processes/supervisor.py",
            "        if child.code == 0:\n            seat.left()\n",
            "        if False:\n            seat.left()\n",
            (RELEASES, "-k", "in_order_is_no_crash"),
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
