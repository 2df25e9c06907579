"""Tells what blocks the event loop, for how long and where.

Owns one thread, which looks a few times a second whether the loop is still at the same round, and if so at
the loop's stack. It never stops anything, and reads no value but the name of an action.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time

import structlog
import trio

from trioaction.events import LOOP_BLOCKED, Events
from trioaction.executor import Executor
from trioaction.log import shortened
from trioaction.stacks import Places

log = structlog.stdlib.get_logger("trioaction")

LOOKS = 2
"""Looks within the time from which on the loop counts as blocked."""
STILL = 10.0
"""Seconds after which a block is told of while it lasts; then again each time it is twice as long."""
THREAD = "trioaction loop watch"
EXECUTE = Executor.execute.__code__


@dataclass(slots=True)
class _Sight:
    """What was seen of one round of the loop: it began at ``round``, and was frozen for so many seconds.

    ``tell_at`` is how long it has to last before it is told of while it lasts.
    """

    round: float
    task: int
    action: str | None
    place: str
    tell_at: float
    frozen: float = 0.0
    several: bool = False
    """Was it at different tasks when looked at, so that none of them is to blame alone?"""

    @property
    def what(self) -> str:
        """Who is to blame."""
        if self.several:
            return "many tasks together"
        return "a task" if self.action is None else f"action {shortened(self.action, 100)}"


class LoopWatch(trio.abc.Instrument):
    """Warns when one round of the event loop takes ``threshold`` seconds or more.

    Trio calls it twice a round, which costs one or two microseconds; a task's steps cost nothing.
    """

    def __init__(self, threshold: float, places: Places, events: Events, *, still: float = STILL) -> None:
        self._events = events
        self._still = still
        self._threshold = threshold
        self._interval = threshold / LOOKS
        self._places = places
        self._round = 0.0  # when it began; 0 while the loop waits for something to do
        self._sight: _Sight | None = None
        self._looked_at = self._cpu_then = 0.0

    async def run(self) -> None:
        """Watch the loop that this runs in. A checkpoint; when cancelled, the thread ends at once."""
        stop = threading.Event()
        look_out = partial(self._look_out, stop, threading.get_ident())
        trio.lowlevel.add_instrument(self)
        try:
            async with trio.open_nursery() as nursery:
                # a limiter of its own: the threads of others may all be busy
                limiter = trio.CapacityLimiter(1)
                nursery.start_soon(
                    partial(trio.to_thread.run_sync, look_out, thread_name=THREAD, limiter=limiter)
                )
                try:
                    await trio.sleep_forever()
                finally:
                    stop.set()
        finally:
            trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        """A round begins."""
        self._round = perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """A round ends."""
        began, self._round = self._round, 0.0
        sight, self._sight = self._sight, None
        if sight is None or sight.round != began:
            return
        now = perf_counter()
        seconds = now - began - sight.frozen - self._frozen(now)
        if seconds >= self._threshold:
            seconds = round(seconds, 3)
            self._events.tell(LOOP_BLOCKED, what=sight.what, seconds=seconds, where=sight.place)

    def _look_out(self, stop: threading.Event, loop: int) -> None:
        """What the thread does."""
        self._looked_at, self._cpu_then = perf_counter(), process_time()
        while not stop.wait(self._interval):
            now = perf_counter()
            frozen = self._frozen(now)
            self._looked_at, self._cpu_then = now, process_time()
            if self._round:
                self._look(self._round, loop, now, frozen)

    def _frozen(self, now: float) -> float:
        """Seconds since the last look for which the whole process stood still.

        It was stopped or suspended if this thread is late too and hardly any processor time was used. Else
        something held the interpreter's lock for so long, in a regular expression for instance.
        """
        late = now - self._looked_at - self._interval
        if late < self._interval or process_time() - self._cpu_then > late / 10:
            return 0.0
        return now - self._looked_at  # perhaps less, but it must not be blamed for what it has not done

    def _look(self, began: float, loop: int, now: float, frozen: float) -> None:
        old, new = self._sight, self._see(began, loop)
        if self._round != began or new is None:
            return  # it went on meanwhile
        new.frozen = min(frozen, now - began)
        if old is not None and old.round == began:
            new.frozen += old.frozen
            new.several = old.several or old.task != new.task
            new.tell_at = old.tell_at
        lasts = now - began - new.frozen
        if lasts >= new.tell_at:
            new.tell_at = 2 * lasts
            log.warning(f"{new.what} has been blocking the event loop for {lasts:.0f} s", where=new.place)
        self._sight = new

    def _see(self, began: float, loop: int) -> _Sight | None:
        frame = sys._current_frames().get(loop)  # pyright: ignore[reportPrivateUsage]  (as its docs say)
        if frame is None:
            return None
        task, action, place, own = frame, None, self._places.name(frame), False
        while frame.f_back is not None and not _is_trio(frame.f_code.co_name, frame.f_globals):
            if not own and self._places.is_own(frame):
                place, own = self._places.name(frame), True
            if action is None and frame.f_code is EXECUTE:
                action = str(frame.f_locals["name"])
            task, frame = frame, frame.f_back
        return _Sight(began, id(task), action, place, self._still)


def _is_trio(function: str, module: dict[str, object]) -> bool:
    """Is it Trio's loop itself, in which each step of a task begins?"""
    return function == "unrolled_run" and module.get("__name__") == "trio._core._run"
