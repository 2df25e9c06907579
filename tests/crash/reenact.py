"""Plays a life, cuts it at a point, lets it go on or another process take over, and checks the books.

The processes are real ones (`runtime.Server`) but for sharing our thread: one that is killed has its
connections taken away before it can say another word, and is cancelled then.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from crash.cutting import LINE, Line
from crash.families import family_of
from crash.ledger import Ledger
from crash.lives import FAR, QUEUE, Journal, Life, Living, actions_of, recurring_of
from crash.managed import managed_of
from crash.points import Point, sources
from crash.steered import steered_of
from engine.fleet import Fleet, open_fleet
from polling import until
from pydantic import SecretStr

from trioaction.action import Action
from trioaction.config import RedisSettings, Settings, TaskSettings, WebSettings
from trioaction.errors import RedisUnavailable, StartupError
from trioaction.redis.resident import Resident
from trioaction.registry import registry_of
from trioaction.runtime import Runtime, Server
from trioaction.work.cycle import CYCLE
from trioaction.work.membership import Membership


@dataclass(eq=False)
class Reenactment:
    """One life in one namespace."""

    url: str
    namespace: str
    life: Life
    line: Line
    fleet: Fleet
    expected: frozenset[Point] = frozenset()
    journal: Journal = field(default_factory=Journal)
    servers: list[Server] = field(default_factory=list[Server])
    neighbour: str | None = None
    """The id of the process beside, if there is one."""
    beside: trio.Event = field(default_factory=trio.Event)
    """Has it done what it is there for?"""
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.fleet, self.life, self.journal)

    async def play(self) -> None:
        """All of it; `AssertionError` if anything is not as it should be afterwards."""
        await self.fleet.transport.pipeline([("SCRIPT", "LOAD", source) for source in sources()])
        library = Resident(CYCLE, self.fleet.transport).library
        await self.fleet.transport.call("FUNCTION", "LOAD", "REPLACE", library)
        if self.life.prepare is not None:
            await self.life.prepare(self.fleet)
        async with trio.open_nursery() as nursery:
            if self.life.beside is None:
                self.beside.set()
            else:
                there = trio.Event()
                nursery.start_soon(self._beside, self.life.beside, there)
                await there.wait()
            lived = await self._live_through()
            self.over.set()
        await self.ledger.check(lived_on=lived)

    async def _live_through(self) -> bool:
        """The first process and, if it leaves anything, the next one; did the first live to its end?"""
        lived = await self._first()
        self.journal.patient = False
        if not lived:
            await self.line.bury()
            await self._end_leases()
        if not lived or self.life.leaves:
            with trio.fail_after(20):
                await self._run(Line(self.life.name), self._drain)
        return lived

    async def _beside(self, script: Callable[[Living], Awaitable[None]], there: trio.Event) -> None:
        async def live(it: Living) -> None:
            self.neighbour = it.membership.id
            there.set()
            await script(it)
            self.beside.set()
            await self.over.wait()

        await self._run(Line(self.life.name), live, queues=[FAR], concurrency=4, scheduler=False)

    async def _first(self) -> bool:
        """The process that is cut; did it live to its end?"""
        lived = False
        try:
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._meet_fate, nursery.cancel_scope)
                    await self._run(self.line, self._script)
                    lived = True
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            if not self.line.dead and not self._never_connected(errors):
                raise
        return lived and (self.line.fate == "lives on" or not self.line.cut.is_set())

    def _never_connected(self, errors: BaseExceptionGroup[BaseException]) -> bool:
        """It was cut while it started, and said so."""
        others = errors.split((RedisUnavailable, StartupError))[1]
        return self.line.cut.is_set() and not self.journal.accepted and others is None

    async def _meet_fate(self, process: trio.CancelScope) -> None:
        await self.line.cut.wait()
        if self.line.fate == "is cancelled":
            self.servers[-1].cancel()
        elif self.line.dead:
            self.servers[-1].cancel()  # for what is shielded in it
            process.cancel()
            for transport in self.line.transports:
                transport.close("the process is dead")

    async def _end_leases(self) -> None:
        """As if we had waited for them to lapse."""
        members = await self.fleet.transport.call("SMEMBERS", self.fleet.keys.processes)
        for id in members:
            if id.decode() == self.neighbour:
                continue
            await self.fleet.transport.call("DEL", self.fleet.keys.lease(id.decode()))

    async def _run(self, line: Line, script: Callable[[Living], Awaitable[None]], **tasks: Any) -> None:
        """One process, from its start to its end."""
        async with trio.open_nursery() as nursery:
            line.before_release = self._keep_record
            token = LINE.set(line)
            try:
                server = Server(self._settings(**tasks), registry_of(self._actions()))
                self.servers.append(server)
                ready = trio.Event()
                runtimes: list[Runtime] = []

                def on_ready(runtime: Runtime, _url: str) -> None:
                    runtimes.append(runtime)
                    ready.set()

                nursery.start_soon(_serve, server, on_ready, nursery.cancel_scope)
                await ready.wait()
                await script(self._living(line, runtimes[0], server))
                server.stop()
            finally:
                LINE.reset(token)

    def _living(self, line: Line, runtime: Runtime, server: Server) -> Living:
        return Living(
            line=line,
            fleet=self.fleet,
            actions=runtime.services.actions,
            tasks=runtime.services.tasks,
            membership=runtime.membership,
            journal=self.journal,
            settled=self.ledger.settled,
            stop=server.stop,
        )

    async def _keep_record(self, id: str) -> None:
        fields = await self.fleet.hash(self.fleet.keys.fan_out(id))
        if fields:
            self.journal.nests.deleted[id] = fields

    async def _script(self, it: Living) -> None:
        try:
            await self.life.script(it)
            if not self.life.leaves:
                await until(self._is_over)
        except trio.TooSlowError as error:
            error.add_note("passed:\n" + "\n".join(map(str, it.line.order)))
            raise

    async def _is_over(self) -> bool:
        """Has it passed the point, and all that it is expected to pass, and done its work?"""
        point = self.line.point
        if point is not None and not point.is_goodbye and not self.line.cut.is_set():
            return False
        expected = {point for point in self.expected if not point.is_goodbye}
        return self.line.passed_all(expected) and self.beside.is_set() and await self.ledger.settled()

    async def _drain(self, it: Living) -> None:
        """What the first one left is rescued and done."""
        await until(lambda: self._is_drained(it.membership))

    async def _is_drained(self, membership: Membership) -> bool:
        members = await self.fleet.transport.call("SMEMBERS", self.fleet.keys.processes)
        others = {id.decode() for id in members} - {membership.id, self.neighbour}
        return not others and self.beside.is_set() and await self.ledger.settled()

    def _actions(self) -> list[type[Action]]:
        recurring = recurring_of(self.journal) if self.life.recurring else []
        known = (actions_of, family_of, steered_of, managed_of)
        return [action for some in known for action in some(self.journal)] + recurring

    def _settings(self, **others: Any) -> Settings:
        tasks: dict[str, Any] = {"queues": [QUEUE], "concurrency": 1, "heartbeat": 0.05, "grace": 5}
        return Settings(
            redis=RedisSettings(url=SecretStr(self.url), namespace=self.namespace),
            tasks=TaskSettings(**(tasks | dict(self.life.settings) | others)),
            web=WebSettings(enabled=False),
        )


async def _serve(server: Server, on_ready: Callable[[Runtime, str], None], scope: trio.CancelScope) -> None:
    await server.run(on_ready)
    scope.cancel()  # it may have ended without ever having been ready


@asynccontextmanager
async def reenacted(
    url: str, namespace: str, life: Life, line: Line, expected: frozenset[Point] = frozenset()
) -> AsyncGenerator[Reenactment]:
    """A life that is about to be played; nothing of it stays in Redis."""
    async with open_fleet(url, namespace) as fleet:
        try:
            yield Reenactment(url, namespace, life, line, fleet, expected)
        finally:
            with trio.CancelScope(shield=True):
                keys = await fleet.all_keys()
                if keys:
                    await fleet.transport.call("UNLINK", *keys)
