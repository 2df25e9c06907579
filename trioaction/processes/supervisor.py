"""The process above several: it listens, starts them, replaces those that crash, and ends with them.

It runs none of the application and imports nothing of it. Owns which processes there are and the exit code;
`roll` owns how they are replaced one after the other, `commands` what signals mean.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager

import structlog
import trio

from trioaction.config import Settings
from trioaction.log import configure
from trioaction.processes.child import Child, Origin, spawn, working_folder
from trioaction.processes.commands import Commands
from trioaction.processes.place import MARGIN, SUPERVISOR, fixed_by
from trioaction.processes.roll import Roll
from trioaction.processes.seat import Seat
from trioaction.redis.embedded import embedded_server
from trioaction.web.listening import listen

log = structlog.stdlib.get_logger("trioaction.processes")

PATIENCE = 60.0
"""Seconds that a process may take to come up where another one serves, or has served."""
LONGEST_FOLDER = 90
"""Bytes: the path of a socket may have 104, and ours has its name behind that."""

OnReady = Callable[[dict[str, str], int], None]
"""Gets the rows of the banner of one process, and how many there are."""


def run_processes(settings: Settings, words: Sequence[str], *, on_ready: OnReady) -> int:
    """Serve with several processes until a signal ends them; returns the exit code, as one would have it.

    ``words`` are those of the command line, for each of them. Raises StartupError if it cannot start itself.
    """
    configure(settings.log, process=SUPERVISOR)
    return trio.run(Supervisor(settings, words, on_ready).run)


def count_of(settings: Settings) -> int:
    """How many processes the settings ask for."""
    if settings.server.processes:
        return settings.server.processes
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Supervisor:
    """The processes of one start."""

    def __init__(self, settings: Settings, words: Sequence[str], on_ready: OnReady) -> None:
        self.stopping = trio.Event()
        """Once it is set, nothing is started any more."""
        self.seats = [Seat(number + 1) for number in range(count_of(settings))]
        self._settings = settings
        self._words = words
        self._on_ready = on_ready
        self._living: set[Child] = set()
        self._code = 0
        self._forced: int | None = None
        self._scope = trio.CancelScope()
        self._begun = False
        self._cwd = working_folder()
        self._changed: dict[str, str] = {}
        """What the processes' settings say that is not obeyed, as far as it was told."""
        self._listener: trio.SocketListener | None = None
        self._folder: str | None = None

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code. A checkpoint.

        When cancelled, or ended by a mistake, the processes notice that it is gone, and drain.
        """
        commands = Commands(self)
        async with trio.open_nursery() as nursery:
            await nursery.start(commands.obey)
            with self._scope:
                async with AsyncExitStack() as stack:
                    await self._prepare(stack)
                    nursery.start_soon(self._kill_the_slow)
                    await self._serve(Roll(self, commands))
            nursery.cancel_scope.cancel()
        return self._code if self._forced is None else self._forced

    async def _prepare(self, stack: AsyncExitStack) -> None:
        """What all processes share. Each of them has a part in the embedded server, as ever."""
        web, redis = self._settings.web, self._settings.redis
        if web.enabled:
            self._listener = await listen(web.host, web.port)
            stack.callback(self.close_door)
            # whether there are metrics at all is for the processes to say, and a roll may change it
            self._folder = stack.enter_context(shared_folder())
        if redis.url is None:
            server = embedded_server(self._settings.data_dir, server=redis.server, fsync=redis.fsync)
            await stack.enter_async_context(server)

    async def _serve(self, roll: Roll) -> None:
        self._begun = True
        async with trio.open_nursery() as self._nursery:
            async with trio.open_nursery() as starting:
                for seat in self.seats:
                    starting.start_soon(self._begin, seat)
            if not self.stopping.is_set():
                self._on_ready(self._rows(), len(self.seats))
                self._nursery.start_soon(roll.run)

    def _rows(self) -> dict[str, str]:
        return next(seat.child.rows for seat in self.seats if seat.child and seat.child.rows is not None)

    async def _begin(self, seat: Seat) -> None:
        """The first process of a seat. If one cannot start, none goes on."""
        child = await self.start(seat, patience=float("inf"))
        if self.stopping.is_set():
            return
        if child is not None and child.rows is not None:
            self.take(seat, child)
            return
        if child is not None and child.problem:
            print(f"trioaction: {child.problem}", file=sys.stderr, flush=True)  # noqa: T201  (as one would)
        self.give_up(_code(child))

    async def start(self, seat: Seat, *, patience: float | None = None) -> Child | None:
        """Start a process for a seat, and wait until it is up or has failed. A checkpoint.

        It has failed if it has no rows, and has ended then. None if there is nothing to wait for: all are
        stopping, or the system has no process to give. When cancelled, it goes on with the supervisor.
        """
        if self.stopping.is_set():
            return None
        listener = None if self._listener is None else self._listener.socket.fileno()
        origin = Origin(
            words=self._words,
            of=len(self.seats),
            listener=listener,
            folder=self._folder,
            cwd=self._cwd,
        )
        try:
            child = await spawn(seat.number, origin)
        except OSError as error:
            if not self.stopping.is_set():  # else the door may have been closed meanwhile
                log.error("the system starts no process", number=seat.number, error=str(error))
            return None
        self._living.add(child)
        self._nursery.start_soon(self._watch, child, seat)
        if self.stopping.is_set():  # meanwhile
            child.drain()
        patience = PATIENCE if patience is None else patience
        with trio.move_on_after(patience):
            await child.settled.wait()
        if not child.settled.is_set():
            child.problem = f"it was not up after {patience:g} s"
            child.kill()
            await child.ended.wait()
        elif child.rows is None:  # it may serve, but nobody knows
            child.drain()
            await self.ended(child)
        return child

    def take(self, seat: Seat, child: Child) -> None:
        """Give the seat to a process that is up."""
        seat.take(child)
        self._tell_of_fixed(child)
        if child.ended.is_set() and not child.told:
            self._lost(seat, child)

    async def _watch(self, child: Child, seat: Seat) -> None:
        await child.watch()
        self._living.discard(child)
        if self.stopping.is_set():
            # one that was not up had not begun anything
            self._code = max(self._code, int(child.code != 0 and child.rows is not None))
        elif seat.child is child and not child.told:
            self._lost(seat, child)

    def _tell_of_fixed(self, child: Child) -> None:
        """Once, not for each process."""
        ours = fixed_by(self._settings)
        changed = {name: text for name, text in child.fixed.items() if ours.get(name, text) != text}
        if changed and changed != self._changed:
            log.warning(
                "settings are not obeyed before the supervisor is started anew",
                number=child.number,
                **changed,
            )
        self._changed = changed

    def _lost(self, seat: Seat, child: Child) -> None:
        if child.code == 0:
            seat.left()
        else:
            seat.crashed()
        if not self.stopping.is_set():
            self._nursery.start_soon(self._replace, seat, child)

    async def _replace(self, seat: Seat, lost: Child) -> None:
        """Start another process where one has ended, again and again if need be."""
        what = {"number": seat.number, "pid": lost.process.pid, "ended": lost.how}
        if seat.is_hopeless:
            log.error("a process ended again and again, and so all do", **what)
            self.give_up(1)
            return
        if lost.code == 0:  # somebody may have told it to
            log.warning("a process ended by itself, and is replaced", **what, restart_in=seat.pause)
        else:
            log.error("a process ended, and is replaced", **what, restart_in=seat.pause)
        while not self.stopping.is_set():
            with trio.move_on_after(seat.pause):
                await self.stopping.wait()
            async with seat.taking:
                if self.stopping.is_set() or seat.child is not lost:
                    return
                child = await self._attempt(seat)
            if child is not None:
                self.take(seat, child)
                return

    async def _attempt(self, seat: Seat) -> Child | None:
        """A process that is up; or None, after telling why."""
        child = await self.start(seat)
        if self.stopping.is_set() or (child is not None and child.rows is not None):
            return child
        seat.failed()
        why = {"ended": child.how, "problem": child.problem} if child else {}
        log.error("a process cannot start", number=seat.number, **why, next_attempt_in=seat.pause)
        if not any(other.is_taken for other in self.seats):
            self.give_up(_code(child))
        return None

    def give_up(self, code: int) -> None:
        """End all, with this exit code."""
        if not self.stopping.is_set():
            self._code = code
            self.stop()

    def stop(self) -> None:
        """Accept nothing any more; `run` returns when all processes have ended."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self.close_door()
        for child in self._living:
            child.drain()
        if not self._begun:
            self._scope.cancel()  # a server that takes its time to load

    def cancel(self, code: int) -> None:
        """End all at once, with this exit code; jobs that run go back."""
        self._forced = code
        for child in self._living:
            if child.rows is None:
                child.kill()
            else:
                child.order(code)

    def kill(self, code: int) -> None:
        """End this process and all others on the spot."""
        for child in self._living:
            child.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(code)

    def pass_on(self, number: int) -> None:
        """Send a signal to all that are up; any other would die of it."""
        for child in self._living:
            if child.is_up:
                child.process.send_signal(number)

    def close_door(self) -> None:
        """Let nobody wait any more for processes that do not accept."""
        if self._listener is not None:
            self._listener.socket.close()
            self._listener = None

    async def ended(self, child: Child) -> None:
        """Wait until a process that was told to end has, and kill it if it takes too long. A checkpoint.

        When cancelled, it may go on.
        """
        # its own, if it told: a roll may have changed it
        limit = (self._settings.tasks.grace if child.grace is None else child.grace) + MARGIN
        with trio.move_on_after(limit):
            await child.ended.wait()
        if not child.ended.is_set():
            log.error("a process did not end and was killed", number=child.number, seconds=limit)
            child.kill()
            await child.ended.wait()

    async def _kill_the_slow(self) -> None:
        await self.stopping.wait()
        async with trio.open_nursery() as nursery:
            for child in list(self._living):
                nursery.start_soon(self.ended, child)


def _code(child: Child | None) -> int:
    """The exit code of all, for one that could not start."""
    return 2 if child is not None and child.code == 2 else 1


@contextmanager
def shared_folder() -> Generator[str | None]:
    """A folder that only this user can enter, with a short name; None if there is no place for one."""
    try:
        short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER - len("/trioaction-12345678")
        path = tempfile.mkdtemp(prefix="trioaction-", dir=None if short else "/tmp")  # noqa: S108  (private)
    except OSError as error:
        log.warning("each process has metrics of its own only: there is no folder", error=str(error))
        yield None
        return
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
