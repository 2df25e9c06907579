"""The embedded server: a real Valkey (or Redis) on a Unix socket, for when no ``REDIS_URL`` is set.

Every process that asks for the same data folder shares one server, and the last one out stops it. Nobody
owns it and there are no pid files: two file locks in the data folder say everything, and the kernel gives up
the locks of a process that is killed.

``users.lock``
    Held shared by every process that uses the server, exclusively by whoever may stop it. So the server is
    stopped only when nobody uses it, and a newcomer waits until it has really ended.
``server.lock``
    Held by the server process itself, which inherits it: "lock held" is "server lives". Only who gets it may
    start a server (Valkey has no lock of its own on its files), and only users do.

A user parks on a connection on which nothing is said. When that ends, the server has died, and the users
race for ``server.lock`` to start it again. The last to leave shuts the server down over the same connection.
For those who are killed instead, ``server_watchdog.py`` runs beside each server and waits for ``users.lock``.
It is a program of its own because Linux's parent-death signal is bound to the thread that forked, and Trio's
threads end when they are idle. Killing it does no harm: the last user out still stops the server.

Measured on 2 cores with Valkey 9.1: 62 ms to start it and 1 ms to join it, back 62 ms after it was killed,
stopped in 1 to 5 ms; the watchdog keeps 8 MB resident. A hung server is killed 10 s after its last user.
A process that forks without ``exec`` (multiprocessing's "fork") passes its use of the server on to its child.

This module never touches what is in the server, and never moves or deletes its data.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog
import trio

from trioaction.errors import EmbeddedServerError
from trioaction.redis import server_lock
from trioaction.redis.server_binary import find_server
from trioaction.redis.server_folder import ServerFolder, open_folder, unusable

WATCHDOG = Path(__file__).with_name("server_watchdog.py")
PATIENCE = 30.0
"""Seconds to wait for a server that says nothing; one that says it is loading may take its time."""
LEAVING = 10.0
"""Seconds that the last user waits for the server's end; after that the watchdog sees to it alone."""
FIRST_DELAY, LONGEST_DELAY = 0.002, 0.02
ATTEMPTS = 2
"""Starts that may fail before it is an error: the first may have been killed from outside."""
RESTARTS, FIRST_PAUSE = 5, 0.2
"""Failed starts in a row before a running process gives up, and the pause after the first (it doubles)."""

DAMAGED = re.compile("-check-aof|-check-rdb|reading the append only file|AOF manifest|Unrecoverable error")

log = structlog.stdlib.get_logger("trioaction.redis.embedded")


@asynccontextmanager
async def embedded_server(
    data_dir: Path, *, server: Path | None = None, fsync: str = "everysec"
) -> AsyncGenerator[str]:
    """The URL of the one server for ``data_dir``, which is kept alive while the context is open.

    Starts it if it does not run yet; ``server`` names the binary (see ``find_server``), ``fsync`` is Redis's
    ``appendfsync``. While a server that died is started again, connections fail; its data is kept.

    Entering is a checkpoint; if it is cancelled, nothing of it stays behind. Leaving is a checkpoint too: the
    last user waits until the server has written its data and ended (some milliseconds, at most ten seconds),
    even when cancelled. Raises EmbeddedServerError if the server cannot be had, and out of the body if it
    cannot be started again.
    """
    binary = find_server(server)
    folder = await trio.to_thread.run_sync(open_folder, data_dir)
    user = _User(folder, [str(binary), *_options(folder, fsync)])
    try:
        await user.join()
        with _single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(user.keep_alive)
                try:
                    yield folder.url
                finally:
                    nursery.cancel_scope.cancel()
    finally:
        # Shielded and bounded: a cancelled process must not leave its server running, nor hang on it.
        with trio.move_on_after(LEAVING, shield=True):
            await user.leave()


def _options(folder: ServerFolder, fsync: str) -> list[str]:
    """Only what Redis 7.0 knows too; every write is in the append-only file before its reply is sent."""
    options = {
        "port": "0",
        "unixsocket": str(folder.socket),
        "unixsocketperm": "700",
        "dir": str(folder.path),
        "daemonize": "no",
        "set-proc-title": "no",
        "appendonly": "yes",
        "appendfsync": fsync,
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@contextmanager
def _single_error() -> Generator[None]:
    """Raise what the body raised, not the group that the nursery made of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        _raise_bare(group.exceptions[0])


def _raise_bare(error: BaseException) -> NoReturn:
    """Raise with the context that the error had before it was put into a group."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


class _User:
    """This process's share in the server of one data folder."""

    def __init__(self, folder: ServerFolder, command: list[str]) -> None:
        self._folder = folder
        self._command = command
        self._users: int | None = None
        self._parked: trio.SocketStream | None = None
        self._answer = b""

    async def join(self) -> None:
        """Become a user, then see to it that a server answers. A checkpoint; ``leave`` must follow always."""
        self._users = await self._enrol()
        self._parked = await self._reach()

    async def keep_alive(self) -> None:
        """Start the server again whenever it dies; runs until cancelled."""
        while self._parked is not None:
            await _ended(self._parked)
            self._unpark()
            log.warning("The embedded Redis died and is started again", data_dir=str(self._folder.path))
            self._parked = await self._reach_again()
            log.info("The embedded Redis is back", data_dir=str(self._folder.path))

    async def leave(self) -> None:
        """Stop being a user; the last one stops the server and waits for its end. A checkpoint."""
        if self._users is None:
            return
        last = server_lock.convert(self._users, shared=False)
        if not last:
            self._give_up()
        try:
            if last or self._is_being_stopped():
                await self._stop(last)
        finally:
            self._unpark()
            self._give_up()

    async def _enrol(self) -> int:
        """The users lock, shared; waits while somebody stops the server."""
        with _explaining(self._folder), trio.move_on_after(PATIENCE):
            for delay in _delays():
                lock = server_lock.take(self._folder.users_lock, shared=True)
                if lock is not None:
                    return lock
                await trio.sleep(delay)
        raise EmbeddedServerError(
            f"The embedded Redis in {self._folder.path} is being stopped by another process, which has not "
            f"finished in {PATIENCE:.0f} s; see {self._folder.log}"
        )

    async def _reach_again(self) -> trio.SocketStream:
        for failures in range(RESTARTS - 1):
            try:
                return await self._reach()
            except EmbeddedServerError as error:
                reason = error.message.partition("\n")[0]
                log.error("The embedded Redis cannot be started again yet", error=reason)
                await trio.sleep(FIRST_PAUSE * 2**failures)
        return await self._reach()

    async def _reach(self) -> trio.SocketStream:
        """A connection to the server that has answered PONG; starts the server if there is none."""
        starts = 0
        with _explaining(self._folder), trio.move_on_after(PATIENCE) as patience:
            for delay in _delays():
                stream = await self._knock()
                if stream is not None:
                    return stream
                if self._answer.startswith((b"-LOADING", b"-BUSY")):
                    patience.deadline = trio.current_time() + PATIENCE
                starts += await self._start_if_none(starts)
                await trio.sleep(delay)
        raise EmbeddedServerError(
            f"The embedded Redis in {self._folder.path} runs but has not been ready for {PATIENCE:.0f} s "
            f"(its answer: {self._answer.decode('utf-8', 'replace') or 'none'}); see {self._folder.log}"
        )

    async def _knock(self) -> trio.SocketStream | None:
        self._answer = b""
        try:
            stream = await trio.open_unix_socket(str(self._folder.socket))
        except OSError:
            return None
        try:
            await stream.send_all(b"PING\r\n")
            self._answer = bytes(await stream.receive_some()).strip()
        except trio.BrokenResourceError:
            pass  # it died under our hands: as if nobody had been there
        finally:
            if self._answer != b"+PONG":
                stream.socket.close()
        return stream if self._answer == b"+PONG" else None

    async def _start_if_none(self, starts: int) -> bool:
        """Whether a server had to be started; raises if that was tried before and did not last."""
        lock = server_lock.take(self._folder.server_lock, shared=False)
        if lock is None:
            return False
        with server_lock.closing(lock):
            if starts >= ATTEMPTS:
                raise self._refused()
            await self._start(lock)
        return True

    async def _start(self, lock: int) -> None:
        """Hand the server lock to a new watchdog and, through it, to a new server."""
        self._folder.sweep()
        watchdog = [sys.executable, "-I", "-S", WATCHDOG, self._folder.users_lock, str(lock)]
        with server_lock.closing(self._folder.open_log()) as output:
            # A session of its own: Ctrl-C in a terminal must not stop the server before its users are done.
            await trio.run_process(
                [*watchdog, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                pass_fds=(lock,),
                start_new_session=True,
            )

    def _refused(self) -> EmbeddedServerError:
        """The error for a server that ended before it answered; says what to do, changes nothing."""
        tail = self._folder.log_tail()
        advice = ""
        if DAMAGED.search(tail):
            advice = (
                " Its append-only file is damaged: repair a copy of it with `valkey-check-aof --fix` (or "
                f"redis-check-aof), or move {self._folder.path / 'appendonlydir'} aside to start empty."
            )
        return EmbeddedServerError(
            f"The embedded Redis ({self._command[0]}) ended while starting.{advice} Its data in "
            f"{self._folder.path} was left as it is. The last lines of {self._folder.log}:\n{tail}"
        )

    async def _stop(self, last: bool) -> None:
        """Shut the server down and wait for its end; if that takes too long, the watchdog goes on.

        Only while the users lock is held exclusively: by us, or (if not ``last``) by the watchdog or another
        leaver. Then only the own connection is used, since only that cannot lead to a newer server.
        """
        stream = self._parked
        for delay in _delays():
            if stream is not None:
                await _shut_down(stream)
            if server_lock.is_free(self._folder.server_lock, shared=False):
                return
            if not last and not self._is_being_stopped():
                return
            await trio.sleep(delay)
            stream = await self._knock() if last else None

    def _is_being_stopped(self) -> bool:
        return not server_lock.is_free(self._folder.users_lock, shared=True)

    def _unpark(self) -> None:
        if self._parked is not None:
            self._parked.socket.close()
            self._parked = None

    def _give_up(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None


class EmbeddedOnDemand:
    """The embedded server for those who may not need it: it starts when its address is first asked for."""

    def __init__(self, data_dir: Path, *, server: Path | None, fsync: str) -> None:
        self._open = partial(embedded_server, data_dir, server=server, fsync=fsync)
        self._wanted = trio.Event()
        self._settled = trio.Event()
        self._url = ""
        self._error: EmbeddedServerError | None = None

    async def address(self) -> str:
        """The server's URL, once it answers. A checkpoint; cancelling it does not stop the server.

        Raises EmbeddedServerError if the server cannot be had.
        """
        self._wanted.set()
        await self._settled.wait()
        if self._error is not None:
            raise self._error
        return self._url

    async def run(self) -> None:
        """Wait until the server is wanted, then keep it until cancelled. One task runs this."""
        await self._wanted.wait()
        try:
            async with self._open() as self._url:
                self._settled.set()
                await trio.sleep_forever()
        except EmbeddedServerError as error:
            if self._settled.is_set():
                raise
            self._error = error
            self._settled.set()


@contextmanager
def _explaining(folder: ServerFolder) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise unusable(folder.path, error) from error


def _delays() -> Iterator[float]:
    delay = FIRST_DELAY
    while True:
        yield delay
        delay = min(delay * 1.2, LONGEST_DELAY)


async def _ended(stream: trio.SocketStream) -> None:
    """Wait for the end of a connection on which nothing is ever said."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def _shut_down(stream: trio.SocketStream) -> None:
    """Ask for an orderly end (the server writes out its data) and wait for it; closes the connection."""
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"SHUTDOWN\r\n")
            await _ended(stream)
