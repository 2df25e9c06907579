"""A job that waits for its children takes no slot, and loses nothing by that."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import MOVES, PARKED_PARENTS, PARKING, SLOTS

PARKED = Promise(
    "A job that waits for its children takes no slot",
    (
        Guard(
            "a move is for the job that it names",
            "work/move.lua",
            "if not has_token(entry, token) or redis",
            "if not entry or redis",
            (MOVES,),
        ),
        Guard(
            "no job is moved onto another one",
            "work/move.lua",
            " or redis.call('HEXISTS', inflight, to) == 1 then",
            " then",
            (MOVES,),
        ),
        Guard(
            "a parked job is a worker",
            "work/move.lua",
            "  if is_parked(to) then enter_place(keys, process, queues, new) end\n",
            "",
            (MOVES,),
        ),
        Guard(
            "who goes on is no worker of its own any more",
            "work/move.lua",
            (
                "  redis.pcall('SREM', keys.workers, worker .. ':' .. queues)\n"
                "  redis.call('DEL', keys.started"
            ),
            "  redis.call('DEL', keys.started",
            (MOVES,),
        ),
        Guard(
            "who ends while parked is no worker any more",
            "work/move.lua",
            ("      if is_parked(place) then leave_place(keys, cycle.process, cycle.queues, place) end\n"),
            "",
            (MOVES,),
        ),
        Guard(
            "a worker's record has its name",
            "work/move.lua",
            "renamed(record, old, new))",
            "record)",
            (MOVES,),
        ),
        Guard(
            "moves come before outcomes",
            "work/cycle.lua",
            (
                "move_all(keys, process, cycle.queues, ARGV, first, moves)\n"
                "local codes = finish_all(keys, cycle, ARGV, starts)\n"
            ),
            (
                "local codes = finish_all(keys, cycle, ARGV, starts)\n"
                "move_all(keys, process, cycle.queues, ARGV, first, moves)\n"
            ),
            (MOVES,),
        ),
        Guard(
            "a reconcile moves first",
            "work/reconcile.lua",
            "move_all(keys, process, queues, ARGV, 7, moves)\n",
            "",
            (MOVES,),
        ),
        Guard(
            "a reconcile knows what the workers are called",
            "work/reconcile.lua",
            "queues = queues or ARGV[5]",
            "queues = ARGV[5]",
            ("tests/engine/test_relabel_doubts.py", "-k", "puts_back"),
        ),
        Guard(
            "a job that has to wait is known to nobody who works on it",
            "work/begin.lua",
            "redis.call('HGET', keys.process(process), 'queues') or ARGV[4]",
            "ARGV[4]",
            ("tests/engine/test_relabel_doubts.py", "-k", "has_to_wait"),
        ),
        Guard(
            "parked jobs go back",
            "work/put_back.lua",
            "'^(p?)(%d+)$'",
            "'^(x?)(%d+)$'",
            (MOVES,),
        ),
        Guard(
            "who was parked is not blamed",
            "work/suspects.lua",
            "if not job.parked then ran[#ran + 1] = job end",
            "ran[#ran + 1] = job",
            (MOVES,),
        ),
        Guard(
            "a number whose outcome waits is not taken",
            "work/slots.py",
            "self.free.difference(taken, (",
            "self.free.difference((",
            (SLOTS,),
        ),
        Guard(
            "a number that Redis may not know as left is not taken",
            "work/slots.py",
            "difference(taken, (move.origin for move in self.moves))",
            "difference(taken)",
            (SLOTS,),
        ),
        Guard(
            "so many jobs are parked",
            "work/slots.py",
            "return len(self.parked) >= self._max_parked",
            "return False",
            (SLOTS,),
        ),
        Guard(
            "time stands still for who is parked",
            "work/slots.py",
            "        slot.pause()\n",
            "",
            (PARKING, "-k", "deadline"),
        ),
        Guard(
            "time runs for who goes on",
            "work/slots.py",
            "        slot.go_on()\n        self.left(slot)",
            "        self.left(slot)",
            (PARKING, "-k", "deadline"),
        ),
        Guard(
            "time runs for who gives up wanting a slot",
            "work/slots.py",
            "            slot.go_on()  # or its deadline would stand still\n",
            "",
            (PARKING, "-k", "gives_up"),
        ),
        Guard(
            "who is parked lends its thread's place",
            "work/slots.py",
            "slot.thread.lend_place()",
            "pass",
            (PARKING, "-k", "thread"),
        ),
        Guard(
            "a thread's place is taken back",
            "work/slots.py",
            "slot.thread.take_place_back()",
            "pass",
            (PARKING, "-k", "thread"),
        ),
        Guard(
            "the last of its tasks lets a job go on",
            "work/slots.py",
            "        wait.tasks -= 1\n        if wait.tasks:\n",
            "        wait.tasks -= 1\n        if False:\n",
            (PARKING, "-k", "last_of_its_tasks"),
        ),
        Guard(
            "a thread that has outlived its job waits without a slot",
            "work/slots.py",
            "perhaps for ever\n                return\n",
            "perhaps for ever\n                pass\n",
            (PARKING, "-k", "outlived"),
        ),
        Guard(
            "who waits again wants no slot",
            "work/slots.py",
            "        self._leave_line(slot)\n        slot.pause()",
            "        slot.pause()",
            (PARKING, "-k", "waits_again or another_one"),
        ),
        Guard(
            "without Redis nobody waits for a slot",
            "work/shift.py",
            "                self._slots.let_go()\n",
            "                pass\n",
            (PARKING, "-k", "away"),
        ),
        Guard(
            "who wants a slot comes before the next job",
            "work/shift.py",
            "[self._slots.in_line :]",
            "",
            (PARKING, "-k", "before_the_next"),
        ),
        Guard(
            "who goes on takes no number whose outcome waits",
            "work/shift.py",
            "self._slots.seat({outcome.slot for outcome in self._outbox.outcomes})",
            "self._slots.seat(())",
            (PARKING,),
        ),
        Guard(
            "moves are kept until Redis has them",
            "work/shift.py",
            "        self._in_doubt = True  # until there is an answer\n        if free:\n",
            "        self._in_doubt, self._slots.moves = True, []\n        if free:\n",
            (PARKING,),
        ),
        Guard(
            "above the limit only what is waited for is taken",
            "work/shift.py",
            "moves=moves, queues=sources, rooms",
            "moves=moves, queues=None, rooms",
            (PARKING, "-k", "above_the_limit"),
        ),
        Guard(
            "a suspect that parks is none",
            "work/shift.py",
            (
                "                self._suspect.drop()  # it may wait for long, and it is "
                "others that do the work\n"
            ),
            "                pass\n",
            (PARKING, "-k", "suspect"),
        ),
        Guard(
            "children end for their parents at the end of a pool",
            "work/shift.py",
            (
                '        if job is not None and slot.stopped == "cancelled" and slot in '
                "self._slots.left_behind:"
            ),
            "        if False:",
            (PARKED_PARENTS, "-k", "shutdown"),
        ),
        Guard(
            "who waits is hurried at the end of a pool",
            "work/shift.py",
            "                self._crew.fan_outs.hurry(LAST_WORDS)\n",
            "",
            (PARKED_PARENTS, "-k", "shutdown"),
        ),
    ),
)
