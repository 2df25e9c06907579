"""What the machine of all scripts plays with: processes, what may happen, and scripts without chance."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.model_locks import OUTSTANDING
from engine.model_process import MAX_DROPPED
from engine.model_record import LARGEST_BATCH
from engine.model_wire import Fate
from hypothesis import strategies as st

from trioaction.fanout import store
from trioaction.fanout.plan import Keep, Plan, follow_up
from trioaction.operate import delayed_sweep, locks, queues, retries, sift
from trioaction.operate import recurring as schedules
from trioaction.redis.scripts import Script
from trioaction.resque import aside, delayed, unique
from trioaction.resque.unique import Unique
from trioaction.work import admission, blocked, cycle, membership, promotion, recurring, scheduler
from trioaction.work.admission import Terms
from trioaction.work.cycle import Cycle, Move, Place, Popped
from trioaction.work.identity import Identity
from trioaction.work.schedule import Recurrence


def changed(script: Script, before: str, after: str) -> Script:
    """The script as it is, but for one thing that would make tests long, or no two runs of them the same."""
    assert before in script.source
    other = copy.copy(script)
    other.source = script.source.replace(before, after)
    other.definitions = script.definitions.replace(before, after)
    other.body = script.body.replace(before, after)
    other.sha = hashlib.sha1(other.source.encode(), usedforsecurity=False).hexdigest()
    return other


def in_order(script: Script) -> Script:
    """What follows fan-outs that end together comes in the order of their ids."""
    return changed(
        script,
        "local function tell_all(keys, touched)\n  for id in pairs(touched) do",
        "local function tell_all(keys, touched)\n"
        "  local ids = {}\n"
        "  for id in pairs(touched) do ids[#ids + 1] = id end\n"
        "  table.sort(ids)\n"
        "  for _, id in ipairs(ids) do",
    )


def patient(script: Script) -> Script:
    """No job that was let go is given up, however slow the test is."""
    return changed(script, "OUTSTANDING = 10000 ", f"OUTSTANDING = {OUTSTANDING} ")


CYCLE = patient(in_order(changed(cycle.CYCLE, "MAX_DROPPED = 1000", f"MAX_DROPPED = {MAX_DROPPED}")))
RECONCILE = patient(in_order(cycle.RECONCILE))
BEGIN, WAKE, DELETE_LOCK = map(patient, (admission.BEGIN, blocked.WAKE, locks.DELETE))
DISSOLVE = patient(
    in_order(
        changed(
            membership.DISSOLVE,
            "redis.call('SRANDMEMBER', owned, most)",
            "redis.call('SORT', owned, 'ALPHA', 'LIMIT', 0, most)",
        )
    )
)
ENQUEUE, DELAY = (
    changed(
        script, "redis.call('SRANDMEMBER', timestamps, MOST_LOOKS)", "redis.call('SORT', timestamps, 'ALPHA')"
    )
    for script in (unique.ENQUEUE, unique.DELAY)
)
MODULES = (
    *(store, delayed, cycle, membership, promotion, recurring, scheduler, admission, blocked, unique, aside),
    *(delayed_sweep, locks, queues, retries, sift, schedules),
)
SCRIPTS = [BEGIN, WAKE, DELETE_LOCK, CYCLE, RECONCILE, DISSOLVE, ENQUEUE, DELAY] + [
    one for module in MODULES for one in vars(module).values() if isinstance(one, Script)
]
QUEUES = ("q", "r", "s")
APPETITES = (("*",), ("q",), ("q", "r"), ("r", "*"), ("*", "q"), ("s", "q", "r"))
MOST_MEMBERS, MOST_JOBS, MOST_LATE, MOST_FAN_OUTS = 3, 60, 6, 4
RECURRENCES = (Recurrence("r:one", "q", 60_000, 1000), Recurrence("r:two", "s", 4_000_000, 0))
SOLO = Unique("test:solo", 3600, delayed=True)
"""Of which there is one in a queue, and one that waits for its time."""
TERMS = {
    "test:one": Terms(("u",), unique=False, seconds=3600),
    "test:child": Terms((), unique=False, seconds=4000),
    "test:solo": Terms("*", unique=True, seconds=3600),
}
"""What jobs need to begin; of children every fourth one."""
NODES = (*(f'test:one:{queue}:[{{"u":{u}}}]' for queue in QUEUES for u in (6, 7)), "test:child:q:[{}]")
"""Locks that another program may take."""
FATES: st.SearchStrategy[Fate] = st.sampled_from(
    ["answered", "answered", "answered", "answered", "resent", "unanswered", "withheld"]
)
MANY = st.sampled_from([255, 255, 15, 7, 5, 2, 0, 240])
"""Places as bits: four slots, four that are parked."""
MOVING = st.sampled_from([(), (), (), (1,), (2,), (7,), (240,), (3, 240), (255, 15)])
"""Places, as bits, whose jobs go elsewhere, and then once more."""
MEANWHILE = st.sampled_from(
    [
        *[""] * 8,
        *["follow", "register"] * 3,
        *["watch"] * 3,
        *["note"] * 2,
        *["wake", "ask", "node", "due", "sieve", "solo", "line"] * 2,
        "close",
        "cancel",
        "die",
    ]
)
PLACES: st.SearchStrategy[Place] = st.sampled_from([1, 2, 3, "p1", "p2"])
RESTRICTED: st.SearchStrategy[tuple[str, ...] | None] = st.sampled_from(
    [None, None, None, None, None, None, ("r",), (), ("s", "q"), ("*", "q")]
)
ROOMS: st.SearchStrategy[dict[str, int]] = st.sampled_from(
    [{}, {}, {}, {"q": 1}, {"q": 0}, {"r": 2, "q": 3}, {"s": -1}]
)
SELDOM = st.sampled_from([False, False, False, True])
DATA = st.data()
CHILDREN = {"foreign": 2**32 - 1, "negative": -1, "gone": 0, "doubled": 0, "refused": 5}
"""Of ends that say something else than the job: the index of the child."""
ENDS = (*["ok"] * 4, "failed", "failed", "retry", "retry", "cancelled", *CHILDREN)
INBOXES = st.sampled_from(["", "w", "w", "x", "i"])
"""Of those who ask how far a fan-out is: also the one of a process that waits for it."""
NOTES = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, 4, 5, 99]), st.sampled_from(["1/2", "2/2", "5/"])),
    min_size=1,
    max_size=3,
)
NEVER = ("f" * 32, "f" * 12 + "8" + "f" * 19)
"""Fan-outs that never were: one of those that nobody waits for, and one of the others."""


def plan_of(ttl: int, keep: Keep, running: int, queued: int, after: str, *, patient: bool) -> Plan:
    """What is asked of a fan-out; ``after`` says which jobs follow it."""
    then = follow_up("test:then", "q", {"n": 1}) if "t" in after else None
    if_ok = follow_up("test:ok", "s", {}) if "o" in after else None
    limits = {"max_running": running, "max_queued": queued}
    return Plan(
        ttl=ttl, batch_size=LARGEST_BATCH, keep=keep, then=then, then_if_ok=if_ok, patient=patient, **limits
    )


PLANS = st.builds(
    plan_of,
    st.sampled_from([1_000_000, 2_000_000]),
    st.sampled_from(["all", "all", "all", "errors", "none"]),
    st.sampled_from([1, 2, 0, 4]),
    st.sampled_from([0, 4, 0, 2, 6]),
    st.sampled_from(["to", "", "o", "t"]),
    patient=SELDOM,
)


@dataclass(frozen=True)
class Numbered(Identity):
    """Its ids come in order; with ``since`` "0" it is provably dead."""

    number: int = 0

    def new_id(self) -> str:
        """The one id of this process."""
        return f"py-{self.host}:{self.pid}.{self.number:06x}"


@dataclass
class Member:
    """What one process knows."""

    id: str
    cycle: Cycle
    slots: int
    dead: bool
    sequence: int = 0
    last_queue: str = ""
    running: dict[Place, Popped] = field(default_factory=dict[Place, Popped])
    in_doubt: bool = False
    moves: list[Move] = field(default_factory=list[Move])
    """Those that Redis may not know yet."""
    parked: int = 0
    """Jobs, so far."""
    wants: Sequence[str] = ()
    """The queues that its jobs are to come from."""
    unasked: set[Place] = field(default_factory=set[Place])
    """Where jobs have not begun, since they may need a lock."""

    def leaves(self, place: Place) -> None:
        """A job is nothing to this process any more."""
        self.running.pop(place, None)
        self.unasked.discard(place)

    def move(self, chosen: int) -> None:
        """Park some jobs, and take some that are parked into slots again."""
        for job in [job for job in self.running.values() if is_chosen(chosen, job.slot)]:
            to = None if job.slot in self.unasked else self._elsewhere(job.slot)
            if to is not None:
                self.moves.append(Move(job.slot, job.token, to))
                self.running[to] = self.running.pop(job.slot)._replace(slot=to)

    def _elsewhere(self, place: Place) -> Place | None:
        if isinstance(place, str):
            return next((slot for slot in range(1, self.slots + 1) if slot not in self.running), None)
        self.parked += 1
        return f"p{self.parked}"

    def moves_nothing(self, move: Move) -> bool:
        """Is there no such job in its place, or another one where it would go to?"""
        job = self.running.get(move.origin)
        return not job or job.token != move.token or move.to in self.running


def is_chosen(bits: int, place: Place) -> bool:
    """Is the bit of a place set?"""
    at = place - 1 if isinstance(place, int) else 4 + int(place[1:]) % 4
    return bool(bits >> at & 1)


def id_of(number: int, *, attached: bool) -> str:
    """Of a fan-out that somebody waits for, or nobody."""
    return f"{number:012x}{'8' if attached else '4'}{number:019x}"
