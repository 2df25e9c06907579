"""Jobs that move to another place of their process, in the scripts of a worker."""

from __future__ import annotations

from engine.fleet import NOW, Fleet, done, element, open_fleet

from trioaction.work.cycle import Move
from trioaction.work.membership import dissolve


async def workers(fleet: Fleet, id: str) -> set[str]:
    names = await fleet.transport.call("SMEMBERS", fleet.keys.workers)
    return {name.decode().removeprefix(f"{id}-") for name in names}


async def working(fleet: Fleet, id: str) -> set[str]:
    return {
        key.rpartition(f"{id}-")[2]
        for key in await fleet.all_keys()
        if ":worker:" in key and ":worker:ping:" not in key and not key.endswith(":started")
    }


async def test_a_parked_job_is_a_worker_of_its_own_and_its_slot_is_free(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        (other,) = (await cycle.exchange([], [1], NOW, moves=[Move(1, job.token, "p1")])).popped
        assert other.raw == element(2)
        assert await workers(fleet, id) == {"1:q", "p1:q"}
        assert await working(fleet, id) == {"1:q", "p1:q"}
        record = await fleet.get(fleet.keys.working_on(f"{id}-p1", "q"))
        assert f'"worker":"{id}-p1"'.encode() in record
        assert element(1) in record
        assert await fleet.get(fleet.keys.started(f"{id}-p1", "q"))
        # the other ends, the parked one takes its slot again and ends too
        await cycle.exchange([done(other)], [], NOW)
        await cycle.exchange([done(job)], [], NOW, moves=[Move("p1", job.token, 1)])
        assert await fleet.get(fleet.keys.stat("processed")) == b"2"
        assert await workers(fleet, id) == {"1:q"}
        assert await working(fleet, id) == set()
        assert not await fleet.get(fleet.keys.started(f"{id}-p1", "q"))
        assert await fleet.hash(fleet.keys.inflight(id)) == {}


async def test_a_parked_job_can_end_where_it_is(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        answer = await cycle.exchange(
            [done(job._replace(slot="p1"))], [], NOW, moves=[Move(1, job.token, "p1")]
        )
        assert answer.codes == [""]
        assert (await workers(fleet, id), await working(fleet, id)) == ({"1:q"}, set())


async def test_a_move_that_is_sent_again_changes_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        _, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        moves = [Move(1, job.token, "p1")]
        (other,) = (await cycle.exchange([], [1], NOW, moves=moves)).popped
        reconciled = await cycle.reconcile([("p1", job.token), (1, other.token)], moves=moves)
        assert (reconciled.held, reconciled.put_back) == ({"p1", 1}, 0)


async def test_a_move_whose_exchange_was_lost_is_made_by_the_reconcile(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        reconciled = await cycle.reconcile([("p1", job.token)], moves=[Move(1, job.token, "p1")])
        assert (reconciled.held, reconciled.put_back) == ({"p1"}, 0)
        assert set(await fleet.hash(fleet.keys.inflight(id))) == {b"p1"}


async def test_a_parked_job_goes_back_when_its_process_is_lost(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([], [1], NOW, moves=[Move(1, job.token, "p1")])
        await dissolve(fleet.transport, fleet.keys, id, "dead")
        assert await fleet.list(fleet.keys.queue("q")) == [element(1), element(2)]
        assert await workers(fleet, id) == set()
        # who was parked is not to blame, and who ran was alone
        deaths = await fleet.hash(fleet.keys.deaths)
        assert list(deaths.values()) == [b"0 1"]


async def test_only_the_queues_that_are_asked_for_are_popped(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await fleet.push("r", element(2, "r"))
        id, cycle = await fleet.member(slots=2, queues=("*",))
        answer = await cycle.exchange([], [1, 2], NOW, queues=["r"])
        assert [job.raw for job in answer.popped] == [element(2, "r")]
        assert set(await fleet.hash(fleet.keys.inflight(id))) == {b"1"}


async def test_a_move_is_for_the_job_that_it_names(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([], [], NOW, moves=[Move(1, job.token + 1, "p1")])
        assert set(await fleet.hash(fleet.keys.inflight(id))) == {b"1"}


async def test_no_job_is_moved_onto_another_one(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        id, cycle = await fleet.member(slots=2)
        (one, _) = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.exchange([], [], NOW, moves=[Move(1, one.token, 2)])
        assert set(await fleet.hash(fleet.keys.inflight(id))) == {b"1", b"2"}


async def test_moves_come_before_outcomes_and_these_before_pops(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2), element(3))
        id, cycle = await fleet.member(slots=2)
        one, two = (await cycle.exchange([], [1, 2], NOW)).popped
        moves = [Move(1, one.token, "p1"), Move("p1", one.token, 1), Move(1, one.token, "p2")]
        answer = await cycle.exchange([done(one._replace(slot="p2")), done(two)], [1], NOW, moves=moves)
        assert (answer.codes, [job.raw for job in answer.popped]) == (["", ""], [element(3)])
        assert set(await fleet.hash(fleet.keys.inflight(id))) == {b"1"}
