"""Cancelling a fan-out, as its record and the scripts of workers see it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from engine.fan_outs import ATTACHED, ID, OWNER, Registrar, batch, cancelled, child, ended, open_registrar
from engine.fleet import NOW, done, element
from private_server import open_private_server

from trioaction.fanout.record import Batch, Refusal
from trioaction.fanout.store import FanOutRefused, Followed
from trioaction.resque.payload import next_attempt
from trioaction.work.cycle import Completion, Popped
from trioaction.work.membership import DISSOLVE, dissolve

IDS = pytest.mark.parametrize("id", [ID, ATTACHED])


class Counts(NamedTuple):
    """What a record says."""

    total: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    sealed: int = 1


async def counts(fleet: Registrar, id: str) -> Counts:
    record = await fleet.record(id)
    return Counts(*(int(record[name]) for name in Counts._fields))


async def stat(fleet: Registrar, name: str) -> int:
    return int(await fleet.get(fleet.keys.stat(name)) or 0)


async def opened(fleet: Registrar, id: str, count: int) -> None:
    """A fan-out with so many children in the queue."""
    await fleet.open(id=id, inbox="in" if id == ATTACHED else "")
    await fleet.store.register(id, batch(0, 0, count, id=id))


@IDS
async def test_children_that_wait_are_counted_at_once_and_never_run(
    redis_url: str, namespace: str, id: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, id, 5)
        await fleet.push("q", element(9))
        _, cycle = await fleet.member()
        first, second = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.finish(cycle, first)
        assert await fleet.store.cancel(id)
        assert await counts(fleet, id) == Counts(5, completed=1, failed=3, cancelled=3)
        assert await fleet.bits("cancelled", id) == {2, 3, 4}
        # only what is no child is left to run
        answer = await cycle.exchange([cancelled(second)], [1, 3], NOW)
        assert (answer.codes, [job.raw for job in answer.popped], answer.cut) == ([""], [element(9)], False)
        assert await counts(fleet, id) == Counts(5, completed=1, failed=4, cancelled=4)
        assert (await stat(fleet, "processed"), await stat(fleet, "failed")) == (1, 0)
        assert await stat(fleet, "cancelled") == 4
        assert await fleet.list(fleet.keys.failed) == []


@IDS
async def test_a_child_never_runs_even_after_the_record_has_expired(
    redis_url: str, namespace: str, id: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, id, 2)
        await fleet.store.cancel(id)
        await fleet.age(id, left=0)
        assert await fleet.record(id) == {}
        _, cycle = await fleet.member()
        assert (await cycle.exchange([], [1, 2], NOW)).popped == []
        assert await fleet.record(id) == {}


async def test_a_child_without_a_record_runs_if_nobody_waited_for_it(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.push("q", child(0)[1], child(0, id=ATTACHED)[1])
        _, cycle = await fleet.member()
        assert [job.raw for job in (await cycle.exchange([], [1, 2], NOW)).popped] == [child(0)[1]]


async def test_children_that_run_end_as_they_like(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 3)
        _, cycle = await fleet.member()
        one, two, three = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        await fleet.store.cancel(ATTACHED)
        assert (await counts(fleet, ATTACHED)).failed == 0
        await cycle.exchange([ended(one), ended(two, ok=False), cancelled(three)], [], NOW)
        assert await counts(fleet, ATTACHED) == Counts(3, completed=1, failed=2, cancelled=1)
        assert await fleet.bits("cancelled", ATTACHED) == {2}


async def test_a_child_that_would_be_tried_again_ends(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.store.cancel(ATTACHED)
        await cycle.exchange([again(job)], [], NOW)
        assert await counts(fleet, ATTACHED) == Counts(1, completed=0, failed=1, cancelled=1)
        assert not await fleet.transport.call("ZCARD", fleet.keys.retry)


async def test_a_child_that_waits_for_its_next_attempt_is_counted_and_dropped(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        retry = again(job)
        await cycle.exchange([retry], [], NOW)
        await fleet.store.cancel(ATTACHED)
        assert (await counts(fleet, ATTACHED)).cancelled == 1
        await fleet.push("q", retry.retry)
        assert (await cycle.exchange([], [1], NOW)).popped == []
        assert (await counts(fleet, ATTACHED)).failed == 1


@pytest.mark.parametrize("mode", ["leave", "dead"])
async def test_a_child_of_a_lost_process_ends_with_it(redis_url: str, namespace: str, mode: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        await fleet.push("q", element(7))
        id, cycle = await fleet.member()
        assert len((await cycle.exchange([], [1, 2], NOW)).popped) == 2
        await fleet.store.cancel(ATTACHED)
        await dissolve(fleet.transport, fleet.keys, id, mode)
        assert await counts(fleet, ATTACHED) == Counts(1, completed=0, failed=1, cancelled=1)
        assert await fleet.list(fleet.keys.queue("q")) == [element(7)]
        assert await stat(fleet, "cancelled") == 1


async def test_a_stray_child_ends_when_it_is_put_back(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        _, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        await fleet.store.cancel(ATTACHED)
        await cycle.reconcile([])
        assert (await counts(fleet, ATTACHED)).cancelled == 1
        assert await fleet.list(fleet.keys.queue("q")) == []


async def test_the_death_of_the_owner_cancels_before_its_job_goes_back(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        parent, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        await fleet.open(id=ATTACHED, owner=parent, inbox="in", front="q")
        await fleet.store.register(ATTACHED, batch(0, 0, 2, id=ATTACHED))
        await fleet.store.close(ATTACHED)
        await dissolve(fleet.transport, fleet.keys, parent, "dead")
        assert await counts(fleet, ATTACHED) == Counts(2, completed=0, failed=2, cancelled=2)
        _, cycle = await fleet.member()
        assert [job.raw for job in (await cycle.exchange([], [1, 2], NOW)).popped] == [element(1)]


async def test_a_sealed_attached_record_stays_its_owners_until_it_is_released(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        await fleet.store.close(ATTACHED)
        assert await fleet.owned() == {ATTACHED.encode()}
        assert await fleet.store.follow(ATTACHED, OWNER, arm=True) == Followed(1, 0, 0, 0, True, False)
        assert await fleet.store.follow(ATTACHED, "py-h:2.abcdef", arm=True) is None
        await fleet.store.release(ATTACHED, OWNER, delete=False)
        assert await fleet.owned() == set()
        assert await fleet.store.follow(ATTACHED, OWNER, arm=False) is None
        await fleet.store.release(ATTACHED, OWNER, delete=True)
        assert not {key for key in await fleet.all_keys() if "fanout" in key}


@IDS
async def test_nothing_is_added_to_a_cancelled_fan_out(redis_url: str, namespace: str, id: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, id, 1)
        assert await fleet.store.cancel(id)
        with pytest.raises(FanOutRefused, match="it has been cancelled"):
            await fleet.store.register(id, batch(1, 1, 1, id=id))
        assert await fleet.store.cancel(id)  # again changes nothing
        assert (await counts(fleet, id)).cancelled == 1


async def test_what_has_finished_or_does_not_exist_cannot_be_cancelled(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ID, 1)
        await fleet.store.close(ID)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.finish(cycle, job)
        assert not await fleet.store.cancel(ID)
        assert not await fleet.store.cancel(ATTACHED)
        assert (await counts(fleet, ID)).cancelled == 0


async def test_an_index_that_was_never_registered_is_not_cancelled(redis_url: str, namespace: str) -> None:
    """Refused inputs leave gaps, and batches may land out of order."""
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        items = [child(40), Refusal(41, "no"), *(child(n) for n in range(42, 71))]
        await fleet.store.register(ID, Batch(1, 40, items))
        await fleet.store.cancel(ID)
        assert await fleet.bits("cancelled") == {40, *range(42, 71)}
        assert await counts(fleet, ID) == Counts(30, completed=0, failed=30, cancelled=30)


async def test_which_of_several_have_been_cancelled(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ID, 1)
        await opened(fleet, "e" * 32, 1)
        await fleet.store.cancel(ID)
        lost = ATTACHED  # nobody can wait for a record that is gone
        assert await fleet.store.cancelled_among([ID, "e" * 32, "f" * 32, lost]) == {ID, lost}


async def test_many_cancelled_jobs_are_dropped_in_portions(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1500)
        await fleet.push("q", element(1))
        await fleet.store.cancel(ATTACHED)
        _, cycle = await fleet.member()
        first = await cycle.exchange([], [1], NOW)
        assert (first.popped, first.cut) == ([], True)
        second = await cycle.exchange([], [1], NOW)
        assert ([job.raw for job in second.popped], second.cut) == ([element(1)], False)
        assert await stat(fleet, "cancelled") == 1500


async def test_children_on_the_parents_queue_go_to_its_head_in_their_order(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await fleet.push("r", element(2))
        await fleet.open(id=ATTACHED, inbox="in", front="q")
        items = [child(n, id=ATTACHED, queue=queue) for n, queue in enumerate(("q", "r", "q", "r"))]
        await fleet.store.register(ATTACHED, Batch(0, 0, items))
        jobs = [item[1] for item in items]
        assert await fleet.list(fleet.keys.queue("q")) == [jobs[0], jobs[2], element(1)]
        assert await fleet.list(fleet.keys.queue("r")) == [element(2), jobs[1], jobs[3]]


async def test_outcomes_are_read_behind_those_that_are_known(redis_url: str, namespace: str) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 3)
        _, cycle = await fleet.member()
        one, two, three = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        await fleet.finish(cycle, one, two)
        await fleet.finish(cycle, three, ok=False)
        page = await fleet.store.outcomes(ATTACHED, 1, 0, 10)
        assert (len(page.results), len(page.errors)) == (1, 1)
        assert len((await fleet.store.outcomes(ATTACHED, 0, 1, 1)).results) == 1


def again(job: Popped) -> Completion:
    """The end of an attempt that is not the last one."""
    retry = next_attempt(job.raw, queue="q", attempt=2, job_id="j")
    fan_out = cancelled(job)
    return done(
        job,
        fan_out=fan_out.fan_out,
        child_index=fan_out.child_index,
        retry=retry,
        due=1,
        delay=1,
    )


async def test_a_full_redis_lets_who_waits_go_on(valkey_binary: Path, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_registrar(server.url, namespace) as fleet:
        await opened(fleet, ATTACHED, 2)
        await fleet.transport.call("CONFIG", "SET", "maxmemory", 1)
        assert await fleet.store.follow(ATTACHED, OWNER, arm=True)
        await fleet.store.close(ATTACHED)
        assert await fleet.store.cancel(ATTACHED)
        await fleet.store.release(ATTACHED, OWNER, delete=True)


async def test_a_child_that_was_cancelled_before_its_fan_out_stays_so(redis_url: str, namespace: str) -> None:
    """As when a failover forgets the cancellation."""
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 2)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([cancelled(job)], [], NOW)
        await fleet.store.cancel(ATTACHED)
        assert await fleet.bits("cancelled", ATTACHED) == {0, 1}
        assert await counts(fleet, ATTACHED) == Counts(2, failed=2, cancelled=2)
        assert not {key for key in await fleet.all_keys() if key.endswith(":waiting")}


async def test_an_end_is_not_taken_back_by_another_start(redis_url: str, namespace: str) -> None:
    """As when somebody pushes an element again."""
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 2)
        _, cycle = await fleet.member()
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await fleet.finish(cycle, job)
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), job.raw)
        await cycle.exchange([], [1], NOW)
        await cycle.reconcile([])
        await fleet.store.cancel(ATTACHED)
        assert await fleet.bits("cancelled", ATTACHED) == {1}
        assert await counts(fleet, ATTACHED) == Counts(2, completed=1, failed=1, cancelled=1)


async def test_what_runs_without_having_been_registered_is_not_cancelled(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.open()
        await fleet.store.register(ID, batch(1, 40, 3))
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), child(5)[1])
        _, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)
        await fleet.store.cancel(ID)
        assert await fleet.bits("cancelled") == {40, 41, 42}


@IDS
async def test_a_cancelled_record_has_no_owner_if_nobody_waits_and_a_ttl(
    redis_url: str, namespace: str, id: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, id, 2)
        _, cycle = await fleet.member()
        await cycle.exchange([], [1], NOW)  # one runs, so that the cancellation is not the end of it
        await fleet.store.cancel(id)
        assert await fleet.owned() == ({id.encode()} if id == ATTACHED else set())
        assert all(ms > 0 for ms in await fleet.ttls(id))
        known = await fleet.transport.call("PTTL", fleet.keys.cancelled(id))
        assert (known > 6 * 24 * 3600 * 1000) == (id == ID)  # its jobs may wait for longer than its record


async def test_nothing_goes_back_before_all_fan_outs_of_its_process_have_ended(
    redis_url: str, namespace: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await fleet.push("p", element(1, "p"))
        parent, cycle = await fleet.member(queues=("p",))
        await cycle.exchange([], [1], NOW)
        ids = [ATTACHED, "fedcba98765489ab" * 2]
        for id in ids:
            await fleet.open(id=id, owner=parent, inbox="in")
            await fleet.store.register(id, batch(0, 0, 1, id=id))
        words = (namespace, parent, "dead", 1)
        assert (await DISSOLVE.run(fleet.transport, (), words))[:2] == [b"more", 0]
        assert (await DISSOLVE.run(fleet.transport, (), words))[:2] == [b"done", 1]
        assert [(await counts(fleet, id)).cancelled for id in ids] == [1, 1]


@pytest.mark.parametrize("field", ["cancelled", "completed"])
@pytest.mark.parametrize("number", ["x", "9" * 19])
async def test_a_damaged_number_costs_no_other_job(
    redis_url: str, namespace: str, field: str, number: str
) -> None:
    async with open_registrar(redis_url, namespace) as fleet:
        await opened(fleet, ATTACHED, 1)
        await fleet.push("q", element(1), element(2))
        await fleet.store.cancel(ATTACHED)
        await fleet.transport.call("HSET", fleet.keys.fan_out(ATTACHED), field, number)
        id, cycle = await fleet.member()
        popped = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        assert {element(1), element(2)} <= {job.raw for job in popped}
        assert (await dissolve(fleet.transport, fleet.keys, id, "dead")).code == "done"
        assert (await dissolve(fleet.transport, fleet.keys, OWNER, "dead")).code == "done"
