"""The exchange with Redis: what pops, what an outcome leaves, and what repeating or cutting it does."""

from __future__ import annotations

import json

import pytest
from engine.fleet import NOW, done, element, open_fleet

from trioaction.resque.payload import encode
from trioaction.work.cycle import CYCLE, Completion, Fenced


async def test_jobs_are_popped_in_their_order_into_the_lowest_slots(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=3)
        await fleet.push("q", element(1), element(2), element(3), element(4))
        popped = (await cycle.exchange([], [3, 1], NOW)).popped
        assert [(job.slot, job.queue, job.raw) for job in popped] == [
            (1, "q", element(1)),
            (3, "q", element(2)),
        ]
        assert await fleet.list(fleet.keys.queue("q")) == [element(3), element(4)]


async def test_a_working_record_shows_the_job_and_goes_with_it(redis_url: str, namespace: str) -> None:
    raw = b'{"class":"a:b", "queue":"q","args":[{"n":12345678901234567890,"l":[]}]}'
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1, queues=("q", "r"))
        await fleet.push("q", raw)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        text = await fleet.get(fleet.keys.working_on(f"{id}-1", "q,r"))
        assert raw in text
        shown = json.loads(text)
        assert shown == {
            "run_at": "Wed Nov 18 2026 11:06:40 GMT+0000 (Coordinated Universal Time)",
            "queue": "q",
            "worker": f"{id}-1",
            "payload": json.loads(raw),
        }
        await cycle.exchange([done(job)], [], NOW)
        assert await fleet.get(fleet.keys.working_on(f"{id}-1", "q,r")) is None
        assert await fleet.hash(fleet.keys.inflight(id)) == {}


@pytest.mark.parametrize("raw", [b"not json", b'{"x":' + b'"y' * 40_000 + b'"}'])
async def test_a_working_record_is_json_whatever_is_popped(
    redis_url: str, namespace: str, raw: bytes
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", raw)
        assert (await cycle.exchange([], [1], NOW)).popped[0].raw == raw
        assert json.loads(await fleet.get(fleet.keys.working_on(f"{id}-1", "q")))["payload"]["args"] == []


async def test_a_success_is_counted(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        assert (await cycle.exchange([done(job) for job in jobs], [], NOW)).codes == ["", ""]
        assert await fleet.get(fleet.keys.stat("processed")) == b"2"
        assert await fleet.get(fleet.keys.stat("failed")) is None


async def test_a_failure_is_counted_and_kept(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        await cycle.exchange([done(job, failure=b'{"some":"entry"}')], [], NOW)
        assert await fleet.list(fleet.keys.failed) == [b'{"some":"entry"}']
        assert await fleet.get(fleet.keys.stat("failed")) == b"1"
        assert await fleet.get(fleet.keys.stat("processed")) is None


async def test_the_same_sequence_again_changes_nothing_and_answers_the_same(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=3)
        await fleet.push("q", *(element(n) for n in range(5)))
        (job, *_) = (await cycle.exchange([], [1], NOW)).popped
        words = done(job).words
        args = (namespace, id, 30_000, 2, "now", "", "q", 0, 1, 2, 0, len(words), *words, 3, 2, "q")
        first = await CYCLE.run(fleet.transport, (), args)
        again = await CYCLE.run(fleet.transport, (), args)
        assert first[2] == again[2] == [b"2", b"q", element(1), b"3", b"q", element(2)]
        assert await fleet.get(fleet.keys.stat("processed")) == b"1"
        assert len(await fleet.list(fleet.keys.queue("q"))) == 2


async def test_the_same_sequence_again_answers_nothing_of_other_exchanges(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        args = (namespace, id, 30_000, 2, "now", "", "q", 0, 0, 2, 0, 2, 1, "q")
        for _ in range(2):
            assert (await CYCLE.run(fleet.transport, (), args))[2] == []


async def test_a_lower_sequence_that_arrives_late_writes_nothing(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await cycle.exchange([], [], NOW)
        await cycle.reconcile([])
        await fleet.push("q", element(1))
        args = (namespace, id, 30_000, 1, "now", "", "q", 0, 0, 1, 0, 1, "q")
        assert await CYCLE.run(fleet.transport, (), args) == [b"stale"]
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


async def test_a_finish_with_a_wrong_token_is_refused(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        wrong = Completion(slot=1, token=job.token + 1, failure=b"{}")
        assert (await cycle.exchange([wrong], [], NOW)).codes == ["unknown"]
        assert await fleet.list(fleet.keys.failed) == []
        assert len(await fleet.hash(fleet.keys.inflight(id))) == 1
        assert (await cycle.exchange([done(job)], [], NOW)).codes == [""]
        assert (await cycle.exchange([done(job)], [], NOW)).codes == ["unknown"]
        assert await fleet.get(fleet.keys.stat("processed")) == b"1"


async def test_a_slot_that_ends_twice_in_one_exchange_counts_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert (await cycle.exchange([done(job), done(job)], [], NOW)).codes == ["", "unknown"]
        assert await fleet.get(fleet.keys.stat("processed")) == b"1"


async def test_without_a_record_nothing_is_popped(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        await fleet.transport.call("DEL", fleet.keys.process(id))
        with pytest.raises(Fenced):
            await cycle.exchange([], [1], NOW)
        with pytest.raises(Fenced):
            await cycle.reconcile([])
        assert await fleet.list(fleet.keys.queue("q")) == [element(1)]


async def test_reconcile_puts_strays_back_at_the_head_in_their_order(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=4)
        await fleet.push("q", *(element(n) for n in range(5)))
        (kept,) = (await cycle.exchange([], [2], NOW)).popped
        await cycle.exchange([], [1, 3, 4], NOW)  # whose answer is lost
        reconciled = await cycle.reconcile([(kept.slot, kept.token)])
        assert (reconciled.held, reconciled.put_back) == ({2}, 3)
        assert await fleet.list(fleet.keys.queue("q")) == [element(n) for n in (1, 2, 3, 4)]
        assert await fleet.get(fleet.keys.working_on(f"{id}-1", "q")) is None
        assert await fleet.get(fleet.keys.working_on(f"{id}-2", "q")) is not None
        again = await cycle.reconcile([(kept.slot, kept.token)])
        assert (again.held, again.put_back) == ({2}, 0)


async def test_reconcile_tells_which_outcomes_redis_has_already(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        one, two = (await cycle.exchange([], [1, 2], NOW)).popped
        await cycle.exchange([done(one)], [], NOW)  # whose answer is lost
        reconciled = await cycle.reconcile([(one.slot, one.token), (two.slot, two.token)])
        assert reconciled.held == {two.slot}


async def test_queues_are_drained_in_strict_priority(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=4, queues=("high", "low"))
        await fleet.push("low", element(1, "low"), element(2, "low"))
        await fleet.push("high", element(3, "high"), element(4, "high"), element(5, "high"))
        popped = (await cycle.exchange([], [1, 2, 3, 4], NOW)).popped
        assert [job.queue for job in popped] == ["high", "high", "high", "low"]


async def test_all_queues_take_turns(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2, queues=("*",))
        for queue in "abc":
            await fleet.push(queue, *(element(n, queue) for n in range(4)))
        taken = []
        for _ in range(6):
            jobs = (await cycle.exchange([], [1, 2], NOW)).popped
            taken += [job.queue for job in jobs]
            await cycle.exchange([done(job) for job in jobs], [], NOW)
        assert "".join(taken) == "abcabcabcabc"


async def test_one_full_queue_delays_another_by_one_cycle_at_most(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2, queues=("*",))
        await fleet.push("busy", *(element(n, "busy") for n in range(100)))
        await cycle.exchange([], [1, 2], NOW)
        await fleet.push("other", element(1, "other"))
        _, cycle = await fleet.member(slots=2, queues=("*",))
        first = (await cycle.exchange([], [1], NOW)).popped
        second = (await cycle.exchange([], [2], NOW)).popped
        assert {job.queue for job in first + second} == {"busy", "other"}


async def test_named_queues_come_before_all_others(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=4, queues=("high", "*"))
        await fleet.push("a", element(1, "a"))
        await fleet.push("high", element(1, "high"), element(2, "high"))
        popped = (await cycle.exchange([], [1, 2, 3, 4], NOW)).popped
        assert [job.queue for job in popped] == ["high", "high", "a"]


async def test_a_queue_of_the_wrong_type_is_told_and_stops_nothing_else(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2, queues=("broken", "q"))
        await fleet.transport.call("SET", fleet.keys.queue("broken"), "x")
        await fleet.push("q", element(1))
        reply = await cycle.exchange([], [1, 2], NOW)
        assert [job.queue for job in reply.popped] == ["q"]
        assert reply.problems == [fleet.keys.queue("broken")]


async def test_keys_of_the_wrong_type_lose_no_outcome(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.failed, "x")
        await fleet.transport.call("RPUSH", fleet.keys.stat("failed"), "x")
        reply = await cycle.exchange([done(job, failure=b"{}") for job in jobs], [], NOW)
        assert reply.codes == ["", ""]
        assert fleet.keys.failed in reply.problems
        assert await fleet.list(fleet.keys.stranded_failures) == [b"{}", b"{}"]
        assert await fleet.hash(fleet.keys.inflight(id)) == {}


async def test_thousands_of_queues_are_looked_at(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2, queues=("*",))
        await fleet.transport.call("SADD", fleet.keys.queues, *(f"empty{n}" for n in range(9000)))
        await fleet.push("q", element(1))
        assert [job.raw for job in (await cycle.exchange([], [1, 2], NOW)).popped] == [element(1)]


async def test_a_set_of_queues_that_is_none_is_told_and_stops_no_named_queue(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2, queues=("*", "q"))
        await fleet.push("q", element(1))
        await fleet.transport.call("DEL", fleet.keys.queues)
        await fleet.transport.call("SET", fleet.keys.queues, "x")
        reply = await cycle.exchange([], [1, 2], NOW)
        assert [job.queue for job in reply.popped] == ["q"]
        assert reply.problems == [fleet.keys.queues]


async def test_a_guard_that_is_no_text_loses_no_outcome(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.transport.call("RPUSH", fleet.keys.guard("test:job"), "x")
        outcomes = [done(job, recurring="test:job", job_id="run") for job in jobs]
        assert (await cycle.exchange(outcomes, [], NOW)).codes == ["", ""]
        assert await fleet.get(fleet.keys.stat("processed")) == b"2"
        assert await fleet.list(fleet.keys.guard("test:job")) == [b"x"]


async def test_one_exchange_carries_about_a_megabyte(redis_url: str, namespace: str) -> None:
    large = [encode("test:job", "q", {"x": "y" * 400_000, "n": n}) for n in range(5)]
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=5)
        await fleet.push("q", *large)
        popped = (await cycle.exchange([], [1, 2, 3, 4, 5], NOW)).popped
        assert [job.raw for job in popped] == large[:3]


async def test_the_guard_of_a_recurring_action_goes_with_its_run_only(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        _, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        one, two = (await cycle.exchange([], [1, 2], NOW)).popped
        await fleet.transport.call("SET", fleet.keys.guard("test:job"), "run2 60000")
        await cycle.exchange([done(one, recurring="test:job", job_id="run1")], [], NOW)
        assert await fleet.get(fleet.keys.guard("test:job")) == b"run2 60000"
        await cycle.exchange([done(two, recurring="test:job", job_id="run2")], [], NOW)
        assert await fleet.get(fleet.keys.guard("test:job")) is None


async def test_nothing_is_left_after_a_member_has_left(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        member = fleet.membership(slots=2)
        await member.join()
        before = await fleet.all_keys()
        assert fleet.keys.workers in before
        await member.leave()
        assert await fleet.all_keys() == set()
