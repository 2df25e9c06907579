"""A job that waits for its children takes no slot: places, moves, clocks, threads, and what may go wrong."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from engine.fleet import open_fleet
from engine.pools import Working, working
from engine.test_poison import die
from polling import until
from private_server import open_private_server
from pydantic import BaseModel
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.fanout.parking import CURRENT_PARKING, Parking
from trioaction.redis.transport import ConnectionLost, open_transport
from trioaction.resque.payload import encode
from trioaction.work.cycle import MAX_ITEMS, Cycle, Exchange
from trioaction.work.membership import dissolve
from trioaction.work.quiet import Quiet
from trioaction.work.slots import Slots


class Stage:
    """What the actions of one test wait for, and what they did."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.connections: list[str] = []
        self.cancelled = 0
        self.waits_on = {"q"}
        self.may_go_on = trio.Event()
        self.may_end = trio.Event()
        self.others_may_end = trio.Event()

    def parent(self, **attributes: Any) -> type[Action]:
        stage = self

        class Parent(Action):
            name = "test:parent"
            task = Task(queue="q")

            async def run(self) -> None:
                place = parking()
                place.park(stage.waits_on)
                stage.did.append("parks")
                try:
                    await stage.may_go_on.wait()
                except trio.Cancelled:
                    stage.cancelled += 1
                    raise
                await place.resume()
                stage.did.append("goes on")
                await stage.may_end.wait()

        for name, value in attributes.items():
            setattr(Parent, name, value)
        return Parent

    def other(self) -> type[Action]:
        stage = self

        class Other(Action):
            name = "test:other"
            task = Task(queue="q")

            class Inputs(BaseModel):
                n: int = 0

            async def run(self, params: Any) -> None:
                stage.did.append(f"other {params.n}")
                await stage.others_may_end.wait()

        return Other


def parking() -> Parking:
    place = CURRENT_PARKING.get()
    assert place is not None
    return place


def did(stage: Stage, *what: str) -> Callable[[], bool]:
    return lambda: stage.did == list(what)


def slots(it: Working) -> Slots:
    assert it.pool._shift is not None
    return it.pool._shift._slots


async def places(it: Working) -> list[bytes]:
    return sorted(await it.fleet.hash(it.fleet.keys.inflight(it.membership.id or "")))


async def processed(it: Working, count: int) -> None:
    await until(lambda: it.tally.processed >= count)


async def nothing_left(it: Working, before: set[str]) -> bool:
    """Is Redis as it was, but for statistics?"""
    return {key for key in await it.fleet.all_keys() if ":stat:" not in key} == before


async def test_a_parked_job_takes_no_slot_and_is_a_worker_of_its_own(redis_url: str, namespace: str) -> None:
    stage = Stage()
    async with working(redis_url, namespace, stage.parent(), stage.other(), slots=1) as it:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        await it.actions.enqueue("test:other")
        await until(did(stage, "parks", "other 0"))
        assert it.tally.parked == 1
        assert await places(it) == [b"1", b"p1"]
        name = f"{it.membership.id}-p1"
        assert f"{name}:*".encode() in await it.fleet.transport.call("SMEMBERS", it.fleet.keys.workers)
        record = json.loads(await it.fleet.get(it.fleet.keys.working_on(name, "*")))
        assert (record["worker"], record["payload"]["class"]) == (name, "test:parent")
        stage.others_may_end.set()
        stage.may_go_on.set()
        stage.may_end.set()
        await processed(it, 2)
        assert it.tally.parked == 0
        assert await places(it) == []
        workers = await it.fleet.transport.call("SMEMBERS", it.fleet.keys.workers)
        assert list(workers) == [f"{it.membership.id}-1:*".encode()]


async def test_to_go_on_a_job_takes_a_slot_before_the_next_one_is_popped(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()
    async with working(redis_url, namespace, stage.parent(), stage.other(), slots=1) as it:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        await it.actions.enqueue_many("test:other", [{"n": n} for n in range(3)])
        await until(did(stage, "parks", "other 0"))
        stage.may_go_on.set()
        await until(lambda: slots(it).in_line == 1)
        stage.others_may_end.set()
        await until(did(stage, "parks", "other 0", "goes on"))
        await wait_all_tasks_blocked(0.02)
        assert await places(it) == [b"1"]
        stage.may_end.set()
        await processed(it, 4)
        assert stage.did[2] == "goes on"


async def test_those_that_want_a_slot_get_one_in_the_order_in_which_they_came(
    redis_url: str, namespace: str
) -> None:
    order: list[int] = []
    parked: list[int] = []
    may_go_on = {n: trio.Event() for n in range(4)}
    others_may_end = trio.Event()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> None:
            place = parking()
            place.park({"q"})
            parked.append(params.n)
            await may_go_on[params.n].wait()
            await place.resume()
            order.append(params.n)

    class Other(Action):
        name = "test:other"
        task = Task(queue="q")

        async def run(self) -> None:
            await others_may_end.wait()

    async with working(redis_url, namespace, Parent, Other, slots=1) as it:
        await it.actions.enqueue_many("test:parent", [{"n": n} for n in range(4)])
        await until(lambda: len(parked) == 4)
        await it.actions.enqueue("test:other")
        await until(lambda: it.pool.running == 5)
        for position, n in enumerate((2, 0, 3, 1), 1):
            may_go_on[n].set()
            await until(lambda position=position: slots(it).in_line == position)
        others_may_end.set()
        await processed(it, 5)
        assert order == [2, 0, 3, 1]


async def test_a_job_that_ends_while_it_is_parked_is_counted_and_leaves_nothing(
    redis_url: str, namespace: str
) -> None:
    class Fails(Action):
        name = "test:fails"
        task = Task(queue="q")

        async def run(self) -> None:
            parking().park({"q"})
            await trio.sleep(0.01)
            raise LookupError("its children are lost")

    stage = Stage()
    stage.others_may_end.set()
    async with working(redis_url, namespace, Fails, stage.other(), slots=1) as it:
        await it.membership.join()
        await wait_all_tasks_blocked(0.01)
        before = await it.fleet.all_keys()
        for count in range(1, 4):
            await it.actions.enqueue("test:fails")
            await it.actions.enqueue("test:other")
            await until(lambda count=count: it.tally.failed == it.tally.processed == count)
        workers = {json.loads(raw)["worker"] for raw in await it.fleet.list(it.fleet.keys.failed)}
        assert workers == {f"{it.membership.id}-p{n}" for n in (1, 2, 3)}
        assert len(slots(it).all) == 2
        own = {it.fleet.keys.queues, it.fleet.keys.failed}
        assert await nothing_left(it, before | own)


async def test_a_deadline_stands_still_while_a_job_is_parked_and_then_runs_again(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()
    async with working(
        redis_url, namespace, stage.parent(timeout=0.1), stage.other(), slots=1, slow=0.1
    ) as it:
        with capture_logs() as lines:
            await it.actions.enqueue("test:parent")
            await until(did(stage, "parks"))
            with trio.move_on_after(0.3):
                await until(lambda: it.tally.failed == 1)
            assert it.tally.parked == 1
            stage.may_go_on.set()
            stage.may_end.set()
            await processed(it, 1)
        assert "slow job" not in [line["event"] for line in lines]
        stage.may_go_on, stage.may_end = trio.Event(), trio.Event()
        stage.may_go_on.set()
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.failed == 1)
        (raw,) = await it.fleet.list(it.fleet.keys.failed)
        assert json.loads(raw)["exception"] == "ActionTimeout"


async def test_who_gives_up_wanting_a_slot_goes_on_and_its_deadline_too(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()

    class Impatient(Action):
        name = "test:impatient"
        task = Task(queue="q")
        timeout = 0.1

        async def run(self) -> None:
            place = parking()
            place.park({"q"})
            await stage.may_go_on.wait()
            with trio.CancelScope() as scope:
                scope.cancel()
                await place.resume()
            stage.did.append("goes on")
            await trio.sleep_forever()

    async with working(redis_url, namespace, Impatient, stage.other(), slots=1) as it:
        await it.actions.enqueue("test:impatient")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other")
        await until(did(stage, "other 0"))
        stage.may_go_on.set()
        await until(lambda: it.tally.failed == 1)
        assert stage.did == ["other 0", "goes on"]
        (raw,) = await it.fleet.list(it.fleet.keys.failed)
        entry = json.loads(raw)
        assert (entry["exception"], entry["worker"][-3:]) == ("ActionTimeout", "-p1")
        stage.others_may_end.set()


async def test_a_job_is_parked_until_the_last_of_its_tasks_goes_on(redis_url: str, namespace: str) -> None:
    events = {name: trio.Event() for name in ("a", "b")}
    went_on: list[str] = []

    async def wait(place: Parking, name: str) -> None:
        place.park({name})
        await events[name].wait()
        await place.resume()
        went_on.append(name)

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        async def run(self) -> None:
            async with trio.open_nursery() as nursery:
                for name in events:
                    nursery.start_soon(wait, parking(), name)

    stage = Stage()
    async with working(redis_url, namespace, Parent, stage.other(), slots=1) as it:
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other")
        await until(did(stage, "other 0"))
        events["a"].set()
        await until(lambda: went_on == ["a"])  # without a slot: the other has it
        events["b"].set()
        await until(lambda: slots(it).in_line == 1)
        stage.others_may_end.set()
        await processed(it, 2)
        assert went_on == ["a", "b"]


async def test_who_waits_again_wants_no_slot_any_more(redis_url: str, namespace: str) -> None:
    stage = Stage()

    class Waverer(Action):
        name = "test:waverer"
        task = Task(queue="q")

        async def run(self) -> None:
            place = parking()
            place.park({"q"})
            await stage.may_go_on.wait()
            with trio.CancelScope() as scope:
                scope.cancel()
                await place.resume()
            place.park({"q"})
            stage.did.append("waits again")
            await stage.may_end.wait()
            await place.resume()

    async with working(redis_url, namespace, Waverer, stage.other(), slots=1) as it:
        await it.actions.enqueue("test:waverer")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other", {"n": 1})
        await until(did(stage, "other 1"))
        stage.may_go_on.set()
        await until(did(stage, "other 1", "waits again"))
        await it.actions.enqueue("test:other", {"n": 2})
        stage.others_may_end.set()
        await until(did(stage, "other 1", "waits again", "other 2"))
        await processed(it, 2)
        assert it.tally.parked == 1
        stage.may_end.set()
        await processed(it, 3)


async def test_a_task_that_wants_a_slot_goes_on_when_another_one_of_its_job_waits(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()
    second_may_wait = trio.Event()

    async def second(place: Parking) -> None:
        await second_may_wait.wait()
        place.park({"q"})
        await stage.may_end.wait()
        await place.resume()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        async def run(self) -> None:
            place = parking()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second, place)
                place.park({"q"})
                await stage.may_go_on.wait()
                await place.resume()
                stage.did.append("goes on")

    async with working(redis_url, namespace, Parent, stage.other(), slots=1) as it:
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other")
        await until(did(stage, "other 0"))
        stage.may_go_on.set()
        await until(lambda: slots(it).in_line == 1)
        second_may_wait.set()
        await until(did(stage, "other 0", "goes on"))
        assert (slots(it).in_line, it.tally.parked) == (0, 1)
        stage.may_end.set()
        stage.others_may_end.set()
        await processed(it, 2)


@pytest.mark.parametrize("ran", [True, False])
async def test_moves_whose_answer_is_lost_are_made_once(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, ran: bool
) -> None:
    exchange = Cycle.exchange
    lost: list[int] = []

    async def loses_moves(cycle: Cycle, *args: Any, **more: Any) -> Exchange:
        moves = len(more["moves"])
        if moves and not ran:
            lost.append(moves)
            raise ConnectionLost("cut", maybe_ran=True)
        reply = await exchange(cycle, *args, **more)
        if moves:
            lost.append(moves)
            raise ConnectionLost("cut", maybe_ran=True)
        return reply

    stage = Stage()
    stage.others_may_end.set()
    stage.may_end.set()
    monkeypatch.setattr(Cycle, "exchange", loses_moves)
    async with working(redis_url, namespace, stage.parent(), stage.other(), slots=1) as it:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        await it.actions.enqueue("test:other")
        await processed(it, 1)
        assert await places(it) == [b"p1"]
        stage.may_go_on.set()
        await processed(it, 2)
        assert len(lost) == 2
        assert stage.did == ["parks", "other 0", "goes on"]


async def test_jobs_that_park_and_go_on_survive_cut_connections(redis_url: str, namespace: str) -> None:
    chance = random.Random(5)
    runs: list[int] = []
    at_once = [0, 0]  # now, and at most

    class Restless(Action):
        name = "test:restless"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> None:
            runs.append(params.n)
            place = parking()
            at_once[:] = at_once[0] + 1, max(at_once[1], at_once[0] + 1)
            for _ in range(chance.randrange(4)):
                place.park({"q"})
                await trio.sleep(chance.random() / 100)
                await place.resume()
            at_once[0] -= 1

    async with (
        working(redis_url, namespace, Restless, slots=4, max_parked=20) as it,
        open_transport(redis_url, name="killer") as killer,
    ):
        await it.actions.enqueue_many("test:restless", [{"n": n} for n in range(1500)])
        for _ in range(15):
            before = it.tally.processed
            await killer.call("CLIENT", "KILL", "TYPE", "normal")
            await until(partial(progress, it, before))
        await until(lambda: all_done(it))
        assert set(runs) == set(range(1500))
        assert await it.fleet.get(it.fleet.keys.stat("processed")) == b"1500"
        # a job whose pop was answered to nobody runs again; one that ran here does not
        assert len(runs) == 1500
        assert len(slots(it).all) <= at_once[1] + 4  # the tasks of jobs that have ended are used again
        assert (it.tally.parked, len(slots(it).free)) == (0, 4)


async def progress(it: Working, before: int) -> bool:
    return it.tally.processed > before or await all_done(it)


async def all_done(it: Working) -> bool:
    left = await it.fleet.transport.call("LLEN", it.fleet.keys.queue("q"), retry=True)
    in_flight = await it.fleet.transport.call(
        "HLEN", it.fleet.keys.inflight(it.membership.id or ""), retry=True
    )
    return left == in_flight == 0


async def test_jobs_of_one_exchange_that_change_places_are_not_mixed_up(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have one token, so a move that is sent twice must not fit another of them."""
    exchange = Cycle.exchange
    sent: list[list[tuple[Any, ...]]] = []

    async def lost_after(cycle: Cycle, *args: Any, **more: Any) -> Exchange:
        reply = await exchange(cycle, *args, **more)
        if more["moves"]:
            sent.append([tuple(move) for move in more["moves"]])
            raise ConnectionLost("cut", maybe_ran=True)
        return reply

    stages = [Stage(), Stage()]

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        class Inputs(BaseModel):
            n: int

        async def run(self, params: Any) -> None:
            stage, place = stages[params.n], parking()
            for _ in range(5):
                place.park({"q"})
                await stage.may_go_on.wait()
                await place.resume()
                stage.did.append("went on")
                stage.may_go_on = trio.Event()
                stage.may_go_on.set()

    monkeypatch.setattr(Cycle, "exchange", lost_after)
    async with working(redis_url, namespace, Parent, slots=4) as it:
        await it.actions.enqueue_many("test:parent", [{"n": 0}, {"n": 1}])
        for stage in stages:
            stage.may_go_on.set()
        await processed(it, 2)
        assert [len(stage.did) for stage in stages] == [5, 5]
        assert len(sent) >= 5


async def test_a_fenced_process_cancels_its_parked_jobs_and_runs_them_again(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()
    async with working(redis_url, namespace, stage.parent(), slots=1, heartbeat=0.02) as it:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        first = it.membership.id or ""
        await until(lambda: places_are(it, [b"p1"]))
        await dissolve(it.fleet.transport, it.fleet.keys, first, "leave")
        await until(did(stage, "parks", "parks"))
        assert (stage.cancelled, it.tally.parked) == (1, 1)
        assert not [key for key in await it.fleet.all_keys() if first in key]
        stage.may_go_on.set()
        stage.may_end.set()
        await processed(it, 1)


async def places_are(it: Working, wanted: list[bytes]) -> bool:
    return await places(it) == wanted


async def test_above_the_limit_only_what_parked_jobs_wait_for_is_taken(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()
    stage.waits_on = {"children"}
    stage.others_may_end.set()
    stage.may_end.set()
    with capture_logs() as lines:
        async with working(redis_url, namespace, stage.parent(), stage.other(), slots=2, max_parked=2) as it:
            await it.actions.enqueue_many("test:parent", [{}, {}])
            await until(lambda: it.tally.parked == 2)
            await it.actions.enqueue("test:other", {"n": 1})
            await it.actions.enqueue("test:other", {"n": 2}, "children")
            await until(lambda: "other 2" in stage.did)
            await wait_all_tasks_blocked(0.05)
            assert "other 1" not in stage.did
            stage.may_go_on.set()
            await until(lambda: "other 1" in stage.did, seconds=8)  # earlier than the safety check
            await processed(it, 4)
    assert sum("so many jobs wait" in line["event"] for line in lines) == 1


async def test_above_the_limit_nothing_is_taken_from_queues_of_others(redis_url: str, namespace: str) -> None:
    stage = Stage()
    stage.waits_on = {"elsewhere"}
    stage.others_may_end.set()
    stage.may_end.set()
    async with working(
        redis_url, namespace, stage.parent(), stage.other(), slots=2, queues=("q", "r"), max_parked=1
    ) as it:
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other", {"n": 1})
        await it.actions.enqueue("test:other", {"n": 2}, "elsewhere")
        await wait_all_tasks_blocked(0.05)
        assert stage.did == ["parks"]
        stage.may_go_on.set()
        await until(lambda: "other 1" in stage.did, seconds=8)
        assert "other 2" not in stage.did


async def test_processes_at_their_limits_that_wait_for_each_other_go_on(
    redis_url: str, namespace: str
) -> None:
    """Each has jobs that wait for children in the queue of which only the other one takes jobs."""
    children: list[str] = []
    pools: dict[str, Working] = {}
    all_run = trio.Event()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="x")

        class Inputs(BaseModel):
            children_in: str

        async def run(self, params: Any) -> None:
            if sum(pool.pool.running for pool in pools.values()) == 4:
                all_run.set()
            await all_run.wait()
            await pools["x"].actions.run_and_wait("test:child", queue=params.children_in)

    class Child(Action):
        name = "test:child"
        task = Task(queue="x")

        async def run(self) -> None:
            children.append("ran")

    classes = (Parent, Child)
    limits: dict[str, Any] = {"slots": 4, "max_parked": 2, "safety_check": 0.1}
    async with (
        working(redis_url, namespace, *classes, queues=("x",), **limits) as pools["x"],
        working(redis_url, namespace, *classes, queues=("y",), **limits) as pools["y"],
    ):
        actions = pools["x"].actions
        for _ in range(2):
            await actions.enqueue("test:parent", {"children_in": "y"}, "x")
            await actions.enqueue("test:parent", {"children_in": "x"}, "y")
        await until(lambda: sum(pool.tally.processed for pool in pools.values()) == 8, seconds=8)
        assert len(children) == 4


async def test_above_the_limit_jobs_are_taken_from_anywhere_when_nothing_ends(
    redis_url: str, namespace: str
) -> None:
    """What parked jobs wait for may be with another process, which waits for what is here."""
    stage = Stage()
    stage.others_may_end.set()
    stage.may_end.set()
    queues = ("q", "r")
    async with working(
        redis_url,
        namespace,
        *(stage.parent(), stage.other()),
        slots=3,
        queues=queues,
        max_parked=1,
        safety_check=0.3,
        heartbeat=60,
        lease=120,
    ) as it:
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue_many("test:other", [{"n": n} for n in range(20)], "r")
        with trio.fail_after(4):  # they do not wait for as long each
            await processed(it, 20)
        assert it.tally.parked == 1
        stage.may_go_on.set()


async def test_a_pool_that_drains_lets_parked_jobs_go_on(redis_url: str, namespace: str) -> None:
    stage = Stage()
    stage.may_end.set()
    async with working(redis_url, namespace, stage.parent(), slots=1) as it, trio.open_nursery() as nursery:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        nursery.start_soon(it.drain)
        await wait_all_tasks_blocked(0.02)
        assert not it.ended.is_set()
        stage.may_go_on.set()
        await it.ended.wait()
        assert it.tally.processed == 1


async def test_parked_jobs_that_outlast_the_grace_period_go_back(redis_url: str, namespace: str) -> None:
    stage = Stage()
    async with working(redis_url, namespace, stage.parent(), slots=1, grace=0) as it:
        await it.actions.enqueue_many("test:parent", [{}, {}])
        await until(lambda: it.tally.parked == 2)
        await it.drain()
        assert (stage.cancelled, it.tally.parked) == (2, 0)
        assert await it.membership.leave() == 2
        assert await it.fleet.list(it.fleet.keys.queue("q")) == [encode("test:parent", "q", {})] * 2
        assert await it.fleet.all_keys() == {it.fleet.keys.queue("q"), it.fleet.keys.queues}


async def test_in_a_quiet_pool_parked_jobs_go_on(redis_url: str, namespace: str) -> None:
    stage, quiet = Stage(), Quiet()
    stage.may_end.set()
    async with working(redis_url, namespace, stage.parent(), stage.other(), slots=1, quiet=quiet) as it:
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        quiet.begin()
        await it.actions.enqueue("test:other")
        stage.may_go_on.set()
        await processed(it, 1)
        assert stage.did == ["parks", "goes on"]


async def test_a_suspect_that_parks_keeps_nobody_waiting(redis_url: str, namespace: str) -> None:
    stage = Stage()
    stage.others_may_end.set()
    stage.may_end.set()
    parent = encode("test:parent", "q", {})
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", parent)
        assert await die(fleet, parent) == 1
        async with working(redis_url, namespace, stage.parent(), stage.other(), slots=2) as it:
            await until(did(stage, "parks"))
            await fleet.push("q", encode("test:other", "q", {"n": 1}))
            await until(did(stage, "parks", "other 1"), seconds=8)
            stage.may_go_on.set()
            await processed(it, 2)
            assert await fleet.hash(fleet.keys.deaths) == {}


async def test_a_suspect_does_not_wait_for_parked_jobs(redis_url: str, namespace: str) -> None:
    stage = Stage()
    stage.others_may_end.set()
    stage.may_end.set()
    suspect = encode("test:other", "q", {"n": 9})
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", suspect)
        assert await die(fleet, suspect) == 1
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        async with working(redis_url, namespace, stage.parent(), stage.other(), slots=2) as it:
            await fleet.push("q", encode("test:parent", "q", {}))
            await until(did(stage, "parks"))
            await fleet.push("q", suspect)
            await until(did(stage, "parks", "other 9"))
            stage.may_go_on.set()
            await processed(it, 2)


async def test_tasks_are_used_again(redis_url: str, namespace: str) -> None:
    class Restless(Action):
        name = "test:restless"
        task = Task(queue="q")

        async def run(self) -> None:
            for _ in range(3):
                parking().park({"q"})
                await trio.lowlevel.checkpoint()
                await parking().resume()

    async with working(redis_url, namespace, Restless, slots=2, max_parked=3) as it:
        await it.actions.enqueue_many("test:restless", [{}] * 200)
        await processed(it, 200)
        assert len(slots(it).all) < 20
        assert slots(it).free == {1, 2}


async def test_a_thread_that_waits_lends_its_place_to_others(redis_url: str, namespace: str) -> None:
    stage = Stage()

    async def wait() -> None:
        place = parking()
        place.park({"q"})
        stage.did.append("parks")
        await stage.may_go_on.wait()
        await place.resume()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        def run(self) -> None:
            trio.from_thread.run(wait)

    class Child(Action):
        name = "test:child"
        task = Task(queue="q")

        def run(self) -> None:
            trio.from_thread.run_sync(stage.may_go_on.set)

    async with working(redis_url, namespace, Parent, Child, slots=1) as it:
        limiter = it.executor._job_threads
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        await it.actions.enqueue("test:child")
        await processed(it, 2)
        assert limiter.total_tokens == 1


async def test_a_thread_that_has_outlived_its_job_waits_without_a_slot(
    redis_url: str, namespace: str
) -> None:
    stage, timed_out = Stage(), threading.Event()

    async def wait() -> None:
        place = parking()
        place.park({"q"})
        await stage.may_go_on.wait()
        await place.resume()
        stage.did.append("goes on")

    class Late(Action):
        name = "test:late"
        task = Task(queue="q")
        timeout = 0.02

        def run(self) -> None:
            timed_out.wait(10)
            trio.from_thread.run(wait)

    async with working(redis_url, namespace, Late, stage.other(), slots=1) as it:
        await it.actions.enqueue("test:late")
        await until(lambda: it.tally.failed == 1)
        await it.actions.enqueue("test:other")
        await wait_all_tasks_blocked(0.02)
        assert stage.did == []
        timed_out.set()
        await until(did(stage, "other 0"))
        stage.may_go_on.set()
        await until(did(stage, "other 0", "goes on"))
        await until(lambda: it.executor._job_threads.total_tokens == 1)
        stage.others_may_end.set()
        await processed(it, 1)
        assert len(slots(it).all) == 2


async def test_a_task_that_a_job_has_left_behind_parks_nobody(redis_url: str, namespace: str) -> None:
    stage = Stage()
    leaked = trio.Event()

    async def leak() -> None:
        await leaked.wait()
        parking().park({"q"})
        stage.did.append("leaked")
        await stage.may_end.wait()
        await parking().resume()

    async with trio.open_nursery() as nursery:

        class Leaks(Action):
            name = "test:leaks"
            task = Task(queue="q")

            async def run(self) -> None:
                nursery.start_soon(leak)

        async with working(redis_url, namespace, Leaks, stage.other(), slots=1) as it:
            await it.actions.enqueue("test:leaks")
            await it.actions.enqueue("test:other")
            await until(did(stage, "other 0"))
            leaked.set()
            await until(did(stage, "other 0", "leaked"))
            assert it.tally.parked == 0
            assert await places(it) == [b"1"]
            stage.may_end.set()
            stage.others_may_end.set()


async def test_while_redis_is_away_nobody_waits_for_a_slot(
    valkey_binary: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.work.shift.LAST_WORDS", 0.1)
    stage = Stage()
    async with (
        open_private_server(valkey_binary) as server,
        working(server.url, namespace, stage.parent(), stage.other(), slots=1, heartbeat=0.1, grace=0) as it,
    ):
        await it.actions.enqueue("test:parent")
        await until(did(stage, "parks"))
        await it.actions.enqueue("test:other")
        await until(did(stage, "parks", "other 0"))
        server.kill()
        stage.may_go_on.set()
        await until(did(stage, "parks", "other 0", "goes on"))
        await server.start()
        stage.may_end.set()
        stage.others_may_end.set()


async def test_in_a_pool_whose_grace_period_is_over_nobody_gets_a_slot(
    redis_url: str, namespace: str
) -> None:
    stage = Stage()

    class Parent(Action):
        name = "test:parent"
        task = Task(queue="q")

        async def run(self) -> None:
            parking().park({"q"})
            await stage.may_go_on.wait()
            try:
                await parking().resume()
            finally:
                with trio.CancelScope(shield=True):
                    await stage.may_end.wait()

    class Stubborn(stage.other()):
        async def run(self, params: Any) -> None:
            stage.did.append("other")
            with trio.CancelScope(shield=True):
                await stage.others_may_end.wait()

    async with working(redis_url, namespace, Parent, Stubborn, slots=1, grace=0) as it:
        await it.actions.enqueue("test:parent")
        await until(lambda: it.tally.parked == 1)
        await it.actions.enqueue("test:other")
        await until(did(stage, "other"))
        stage.may_go_on.set()
        await until(lambda: slots(it).in_line == 1)
        it.draining.set()
        await wait_all_tasks_blocked(0.02)
        stage.others_may_end.set()
        await processed(it, 1)
        await wait_all_tasks_blocked(0.05)
        assert (slots(it).in_line, await places(it)) == (1, [b"p1"])
        stage.may_end.set()
        await it.ended.wait()


async def test_in_a_pool_whose_grace_period_is_over_no_suspect_begins(redis_url: str, namespace: str) -> None:
    stage = Stage()
    suspect = encode("test:other", "q", {"n": 9})

    class Stubborn(stage.parent()):
        async def run(self) -> None:
            stage.did.append("runs")
            with trio.CancelScope(shield=True):
                await stage.may_end.wait()

    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", suspect)
        assert await die(fleet, suspect) == 1
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:parent", "q", {}))
        with capture_logs() as lines:
            async with working(redis_url, namespace, Stubborn, stage.other(), slots=2, grace=0) as it:
                await until(lambda: it.pool.running == 2)
                it.draining.set()
                await wait_all_tasks_blocked(0.02)
                stage.may_end.set()
                await it.ended.wait()
                assert it.tally.processed == 1
        assert "runs alone" not in str(lines)
        assert stage.did == ["runs"]
        assert await fleet.list(fleet.keys.queue("q")) == [suspect]


async def test_more_moves_than_an_exchange_carries_come_before_all_else(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis would not know an outcome from a place of which it has not heard, and lose what is there."""
    exchange, may_answer, looks = Cycle.exchange, trio.Event(), 0
    count = MAX_ITEMS + 100

    async def held(cycle: Cycle, *args: Any, **more: Any) -> Exchange:
        nonlocal looks
        looks += 1
        reply = await exchange(cycle, *args, **more)
        await may_answer.wait()
        return reply

    stage = Stage()
    async with working(redis_url, namespace, stage.other(), slots=count + 1) as it:
        await it.actions.enqueue_many("test:other", [{}] * count)
        await until(lambda: it.pool.running == count)
        await wait_all_tasks_blocked(0.05)
        monkeypatch.setattr(Cycle, "exchange", held)
        await it.actions.enqueue("test:other")
        await until(lambda: looks == 1)
        await it.actions.enqueue_many("test:other", [{}] * count)
        for slot in sorted(slots(it).busy, key=lambda slot: -int(slot.place)):
            slots(it).park(slot, {"q"})
        stage.others_may_end.set()
        await until(lambda: it.pool.running == 0)
        may_answer.set()
        await processed(it, 2 * count + 1)
        assert len(stage.did) == 2 * count + 1
        assert await places(it) == []
