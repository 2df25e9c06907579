"""Jobs that kill their process: they run alone, their neighbours are not blamed, and in the end they fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from engine.fleet import NOW, Fleet, done, element, open_fleet
from engine.pools import Working, working
from polling import until
from private_server import open_private_server
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trioaction.action import Action, Task
from trioaction.config import TaskSettings
from trioaction.resque.payload import encode
from trioaction.work.cycle import CYCLE, Cycle, Popped
from trioaction.work.membership import DISSOLVE, dissolve

HOUR = 3_600_000
MAX_DEATHS = TaskSettings().max_deaths


async def die(fleet: Fleet, *jobs: bytes, slots: int | None = None, mode: str = "dead") -> int:
    """A process takes these jobs from the head of "q" and dies of them; how many became suspects."""
    id, cycle = await fleet.member(slots=10)
    popped = (await cycle.exchange([], range(1, (slots or len(jobs)) + 1), NOW)).popped
    assert [job.raw for job in popped] == list(jobs)
    await fleet.transport.call("DEL", fleet.keys.lease(id))
    return len((await dissolve(fleet.transport, fleet.keys, id, mode)).suspected)


async def take(fleet: Fleet, slots: Sequence[int] = (1, 2, 3, 4)) -> list[Popped]:
    _, cycle = await fleet.member(slots=max(slots))
    return (await cycle.exchange([], slots, NOW)).popped


async def waiting(fleet: Fleet, queue: str = "q") -> list[bytes]:
    return await fleet.list(fleet.keys.queue(queue))


@pytest.mark.parametrize("mode", ["rescue", "dead"])
async def test_a_job_that_died_alone_is_the_last_that_is_popped(
    redis_url: str, namespace: str, mode: str
) -> None:
    jobs = [element(n) for n in range(5)]
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", jobs[2])
        assert await die(fleet, jobs[2], mode=mode) == 1
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), jobs[1], jobs[0])
        await fleet.push("q", jobs[3], jobs[4])
        popped = await take(fleet, range(1, 11))
        assert [(job.raw, job.deaths) for job in popped] == [(jobs[0], None), (jobs[1], None), (jobs[2], 1)]
        assert await waiting(fleet) == jobs[3:]


async def test_a_suspect_is_seen_in_a_large_batch_and_behind_a_star(redis_url: str, namespace: str) -> None:
    jobs = [element(n) for n in range(40)]
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", jobs[20])
        await die(fleet, jobs[20])
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        await fleet.push("q", *jobs)
        await fleet.push("z", element(99))
        _, cycle = await fleet.member(slots=30, queues=("*",))
        popped = (await cycle.exchange([], range(1, 31), NOW)).popped
        assert popped[-1].raw == jobs[20]
        assert popped[-1].deaths == 1
        assert sorted(job.raw for job in popped if job.queue == "q") == sorted(jobs[:21])
        assert await waiting(fleet) == jobs[21:]


async def test_one_death_beside_others_makes_no_suspect_and_two_do(redis_url: str, namespace: str) -> None:
    one, two = element(1), element(2)
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", one, two)
        assert await die(fleet, one, two) == 0
        assert await die(fleet, one, two) == 2
        popped = await take(fleet)
        assert [(job.raw, job.deaths) for job in popped] == [(one, 0)]
        assert await waiting(fleet) == [two]


async def test_equal_jobs_that_die_together_have_died_once(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", *[element(1)] * 4)
        assert await die(fleet, *[element(1)] * 4) == 0
        assert len(await take(fleet)) == 4


async def test_who_goes_by_itself_blames_nobody(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        for _ in range(MAX_DEATHS):
            assert await die(fleet, element(1), mode="leave") == 0
        assert await fleet.hash(fleet.keys.deaths) == {}


async def test_a_rescue_in_slices_blames_as_one_in_a_single_step(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=3)
        await fleet.push("q", element(1), element(1), element(2))
        await cycle.exchange([], [1, 2, 3], NOW)
        for left in (2, 1, 0):  # in the last slices fewer are there than died
            await DISSOLVE.run(fleet.transport, (), (namespace, id, "dead", 1))
            assert len(await waiting(fleet)) == 3 - left
        assert sorted((await fleet.hash(fleet.keys.deaths)).values()) == [b"1 0", b"1 0"]


async def test_who_was_leaving_when_it_died_blames_nobody(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=2)
        await fleet.push("q", element(1), element(2))
        await cycle.exchange([], [1, 2], NOW)
        await DISSOLVE.run(fleet.transport, (), (namespace, id, "leave", 1))
        assert (await dissolve(fleet.transport, fleet.keys, id, "dead")).jobs == 1
        assert await fleet.hash(fleet.keys.deaths) == {}


@pytest.mark.parametrize("end", [{}, {"failure": b"{}"}, {"retry": element(2), "due": 1, "delay": 1}])
async def test_a_job_that_ends_is_suspected_no_more(
    redis_url: str, namespace: str, end: dict[str, Any]
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await die(fleet, element(1))
        _, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert job.deaths == 1
        assert (await cycle.exchange([done(job, **end)], [], NOW)).codes == [""]
        assert await fleet.hash(fleet.keys.deaths) == {}


async def test_an_outcome_that_is_refused_clears_nobody(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await die(fleet, element(1))
        _, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        late = job._replace(token=job.token + 7)
        assert (await cycle.exchange([done(late)], [], NOW)).codes == ["unknown"]
        assert len(await fleet.hash(fleet.keys.deaths)) == 1


async def test_a_suspect_whose_reply_was_lost_is_told_of_again(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        await die(fleet, element(1))
        id, _ = await fleet.member(slots=3)
        args = (namespace, id, 30_000, 1, "now", "", "q", 0, 0, 3, 0, 3, 2, 1, "q")
        first = await CYCLE.run(fleet.transport, (), args)
        assert first[2:6] == [[b"1", b"q", element(1)], b"", [], 1]
        await fleet.transport.call("DEL", fleet.keys.deaths)  # what others do meanwhile does not matter
        assert (await CYCLE.run(fleet.transport, (), args))[:6] == first[:6]


async def test_an_exchange_sent_again_knows_only_a_suspect_of_its_own(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        await die(fleet, element(1))
        id, cycle = await fleet.member(slots=2)
        await cycle.exchange([], [1], NOW)
        args = (namespace, id, 30_000, 2, "now", "", "q", 0, 0, 1, 0, 2, "q")
        for _ in range(2):
            answer = await CYCLE.run(fleet.transport, (), args)
            assert (answer[2], answer[5]) == ([b"2", b"q", element(2)], -1)


async def test_a_suspect_that_does_not_run_goes_back_and_stays_one(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        await die(fleet, element(1))
        _, cycle = await fleet.member(slots=2)
        await cycle.exchange([], [1, 2], NOW)  # whose answer is lost
        assert (await cycle.reconcile([])).put_back == 1
        assert await waiting(fleet) == [element(1), element(2)]
        (job,) = (await cycle.exchange([], [1, 2], NOW)).popped
        assert job.deaths == 1


async def test_suspicions_are_forgotten_in_time_but_not_while_a_suspect_is_about(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        call, deaths = fleet.transport.call, fleet.keys.deaths
        await fleet.push("q", element(1))
        await die(fleet, element(1))
        assert HOUR - 60_000 < await call("PTTL", deaths) <= HOUR
        await call("PEXPIRE", deaths, 5000)
        await take(fleet)
        assert HOUR - 60_000 < await call("PTTL", deaths) <= HOUR


async def test_deaths_of_a_job_that_runs_for_longer_than_they_are_remembered_add_up(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await die(fleet, element(1))
        id, cycle = await fleet.member(slots=1)
        await cycle.exchange([], [1], NOW)
        await fleet.transport.call("DEL", fleet.keys.deaths)  # an hour has passed
        await dissolve(fleet.transport, fleet.keys, id, "dead")
        assert [job.deaths for job in await take(fleet)] == [2]


async def test_a_former_suspect_of_the_process_is_not_taken_for_this_one(
    redis_url: str, namespace: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        for _ in range(2):
            await die(fleet, element(1))
        id, cycle = await fleet.member(slots=1)
        (job,) = (await cycle.exchange([], [1], NOW)).popped
        assert job.deaths == 2
        await fleet.push("q", element(2))
        await cycle.exchange([done(job)], [1], NOW)
        await dissolve(fleet.transport, fleet.keys, id, "dead")
        assert [job.deaths for job in await take(fleet)] == [1]


@pytest.mark.parametrize("kind", [("SET", "x"), ("RPUSH", "x"), ("HSET", "x", "y")])
async def test_a_broken_record_of_deaths_stops_no_job(
    redis_url: str, namespace: str, kind: tuple[str, ...]
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call(kind[0], fleet.keys.deaths, *kind[1:])
        await fleet.push("q", element(1), element(2))
        await die(fleet, element(1), element(2))
        ours = kind[0] == "HSET"
        assert (await fleet.transport.call("PTTL", fleet.keys.deaths) > 0) is ours
        _, cycle = await fleet.member(slots=2)
        jobs = (await cycle.exchange([], [1, 2], NOW)).popped
        assert [job.deaths for job in jobs] == [None, None]
        assert (await cycle.exchange([done(job) for job in jobs], [], NOW)).codes == ["", ""]


async def test_a_full_redis_blames_and_clears_too(valkey_binary: Any, namespace: str) -> None:
    async with open_private_server(valkey_binary) as server, open_fleet(server.url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        await fleet.transport.call("CONFIG", "SET", "maxmemory", "1")
        assert await die(fleet, element(1)) == 1
        _, cycle = await fleet.member(slots=2)
        (job,) = (await cycle.exchange([], [1, 2], NOW)).popped
        assert job.deaths == 1
        (other,) = (await cycle.exchange([done(job)], [1, 2], NOW)).popped
        assert other.deaths is None
        assert await fleet.hash(fleet.keys.deaths) == {}


async def test_a_process_whose_record_was_deleted_loses_no_job(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1), element(2))
        other, _ = await fleet.member(slots=9, queues=("other",))
        before = await fleet.all_keys()
        id, cycle = await fleet.member(slots=3)
        await cycle.exchange([], [1, 2, 3], NOW)
        await fleet.transport.call("DEL", fleet.keys.process(id))
        assert (await dissolve(fleet.transport, fleet.keys, id, "rescue")).code == "alive"
        await fleet.transport.call("DEL", fleet.keys.lease(id))
        ended = await dissolve(fleet.transport, fleet.keys, id, "rescue")
        assert (ended.code, ended.jobs, ended.suspected) == ("done", 2, ())
        assert await waiting(fleet) == [element(1), element(2)]
        assert await fleet.all_keys() == before
        workers = await fleet.transport.call("SMEMBERS", fleet.keys.workers)
        assert {name.rpartition(b"-")[0] for name in workers} == {other.encode()}
        assert (await dissolve(fleet.transport, fleet.keys, id, "rescue")).code == "gone"


async def test_jobs_of_a_process_of_which_only_they_are_left_go_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        id, cycle = await fleet.member(slots=1)
        await fleet.push("q", element(1))
        await cycle.exchange([], [1], NOW)
        call, keys = fleet.transport.call, fleet.keys
        await call("DEL", keys.process(id), keys.lease(id), keys.workers)
        assert (await dissolve(fleet.transport, keys, id, "rescue")).jobs == 1
        assert await waiting(fleet) == [element(1)]


async def test_who_was_taken_for_dead_and_lives_takes_it_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        await die(fleet, element(1))
        member = fleet.membership()
        former = await member.join()
        cycle = Cycle(fleet.transport, fleet.keys, former, ("q",), 30_000)
        assert [job.deaths for job in (await cycle.exchange([], [1], NOW)).popped] == [1]
        await fleet.transport.call("DEL", fleet.keys.lease(former))
        await dissolve(fleet.transport, fleet.keys, former, "rescue")
        assert list((await fleet.hash(fleet.keys.deaths)).values()) == [b"0 2"]
        assert 0 < await fleet.transport.call("PTTL", fleet.keys.blamed(former)) <= HOUR
        member.fenced(former)
        await member.join()
        assert list((await fleet.hash(fleet.keys.deaths)).values()) == [b"0 1 1"]
        assert await fleet.hash(fleet.keys.blamed(former)) == {}
        await member.leave()


async def test_it_is_not_taken_back_for_ever(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        member = fleet.membership()
        for _ in range(13):
            id = await member.join()
            cycle = Cycle(fleet.transport, fleet.keys, id, ("q",), 30_000)
            await cycle.exchange([], [1], NOW)
            await dissolve(fleet.transport, fleet.keys, id, "dead")
            member.fenced(id)
        await member.join()
        assert [job.deaths for job in await take(fleet)] == [3]  # it may be what keeps its process silent


async def test_of_a_job_that_has_ended_nothing_is_taken_back(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", element(1))
        member = fleet.membership()
        id = await member.join()
        await Cycle(fleet.transport, fleet.keys, id, ("q",), 30_000).exchange([], [1], NOW)
        await dissolve(fleet.transport, fleet.keys, id, "dead")
        _, other = await fleet.member()
        (job,) = (await other.exchange([], [1], NOW)).popped
        await other.exchange([done(job)], [], NOW)
        member.fenced(id)
        await member.join()
        assert await fleet.hash(fleet.keys.deaths) == {}


async def test_without_a_limit_no_job_is_given_up(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", sick())
        for _ in range(MAX_DEATHS):
            await die(fleet, sick())
    suspect = Sick.fresh()
    suspect.may_end.set()
    async with working(redis_url, namespace, suspect, max_deaths=0) as it:
        await until(lambda: it.tally.processed == 1)


class Sick(Action):
    """Tells that it runs, and waits for what comes: the test kills its process, or lets it end."""

    name = "test:sick"
    task = Task(queue="q", retries=5)
    runs: int
    may_end: trio.Event

    @classmethod
    def fresh(cls) -> type[Sick]:
        return type("Sick", (cls,), {"runs": 0, "may_end": trio.Event()})

    async def run(self) -> None:
        type(self).runs += 1
        await self.may_end.wait()


class Sound(Sick):
    """A neighbour that does no harm."""

    name = "test:sound"

    @classmethod
    def fresh(cls) -> type[Sound]:
        return type("Sound", (cls,), {"runs": 0, "may_end": trio.Event()})


def sick(queue: str = "q") -> bytes:
    return encode("test:sick", queue, {})


async def kill(it: Working) -> None:
    """As if its process had died."""
    id = it.membership.id or ""
    it.scope.cancel()
    await it.ended.wait()
    await dissolve(it.fleet.transport, it.fleet.keys, id, "dead")


async def suspected(url: str, namespace: str, raw: bytes) -> None:
    """Make a suspect of a job, which waits in "q" then."""
    async with open_fleet(url, namespace) as fleet:
        await fleet.push("q", raw)
        assert await die(fleet, raw) == 1


@pytest.mark.parametrize("slots", [1, 6])
async def test_a_poison_job_fails_in_the_end_and_its_neighbours_never(
    redis_url: str, namespace: str, slots: int
) -> None:
    poison, sound = Sick.fresh(), Sound.fresh()
    async with working(redis_url, namespace, poison, sound, slots=slots) as it:
        await it.fleet.push("q", sick(), *(encode("test:sound", "q", {"n": n}) for n in range(5)))
        await until(lambda: poison.runs == 1)
        await kill(it)
    sound.may_end.set()
    deaths, failed = 1, 0
    with capture_logs() as lines:
        while not failed:
            async with working(redis_url, namespace, poison, sound, slots=slots) as it:
                await until(lambda deaths=deaths, it=it: poison.runs > deaths or it.tally.failed > 0)
                failed += it.tally.failed
                if not failed:
                    deaths = poison.runs
                    await kill(it)
                else:
                    await until(lambda it=it: total(it, 6))
    assert deaths <= MAX_DEATHS + 2
    async with open_fleet(redis_url, namespace) as fleet:
        (entry,) = [json.loads(raw) for raw in await fleet.list(fleet.keys.failed)]
        assert entry["exception"] == "PoisonJob"
        assert entry["error"].startswith(
            "The process that ran this job was lost 3 times while it ran no other"
        )
        assert entry["payload"]["class"] == "test:sick"
        assert await fleet.get(fleet.keys.stat("processed")) == b"5"
        assert await fleet.get(fleet.keys.stat("failed")) == b"1"
        assert await fleet.hash(fleet.keys.deaths) == {}
        assert await waiting(fleet) == []
        assert await fleet.transport.call("EXISTS", fleet.keys.retry) == 0
    said = [(line["event"], line["log_level"]) for line in lines]
    assert said.count(("a job was given up: its process was lost again and again", "error")) == 1
    assert said.count(("a job runs alone, because its process was lost before", "warning")) >= MAX_DEATHS - 1


async def total(it: Working, count: int) -> bool:
    """Have so many jobs ended in the whole fleet?"""
    counters = [await it.fleet.get(it.fleet.keys.stat(name)) for name in ("processed", "failed")]
    return sum(int(number or 0) for number in counters) == count


async def test_a_suspect_waits_for_the_others_and_nothing_is_taken_until_it_has_ended(
    redis_url: str, namespace: str
) -> None:
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        await fleet.push("q", encode("test:sound", "q", {"n": 2}))
    async with working(redis_url, namespace, suspect, neighbour, slots=6) as it:
        await until(lambda: it.pool.running == 2)
        await wait_all_tasks_blocked(0.01)
        assert (suspect.runs, neighbour.runs) == (0, 1)
        await it.fleet.push("q", encode("test:sound", "q", {"n": 3}))  # rings
        await wait_all_tasks_blocked(0.05)
        assert (suspect.runs, neighbour.runs, it.pool.running) == (0, 1, 2)
        neighbour.may_end.set()
        await until(lambda: suspect.runs == 1)
        inflight = await it.fleet.hash(it.fleet.keys.inflight(it.membership.id or ""))
        assert len(inflight) == 1  # so that its death would be its own
        await wait_all_tasks_blocked(0.05)
        assert (neighbour.runs, it.pool.running) == (1, 1)
        suspect.may_end.set()
        await until(lambda: it.tally.processed == 4)
        assert await it.fleet.hash(it.fleet.keys.deaths) == {}


async def test_a_suspect_does_not_keep_the_others_waiting_for_ever(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioaction.work.suspect.ALONE", 0.2)
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        await fleet.push("q", encode("test:sound", "q", {"n": 2}))
    async with working(redis_url, namespace, suspect, neighbour) as it:
        await until(lambda: suspect.runs == 1)  # beside a neighbour that does not end
        assert neighbour.runs == 1
        await until(lambda: neighbour.runs == 2)  # beside a suspect that does not
        suspect.may_end.set()
        neighbour.may_end.set()
        await until(lambda: it.tally.processed == 3)


async def test_what_waits_behind_a_suspect_is_looked_for_when_it_has_ended(
    redis_url: str, namespace: str
) -> None:
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    suspect.may_end.set()
    neighbour.may_end.set()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("DEL", fleet.keys.queue("q"))
        async with working(redis_url, namespace, suspect, neighbour) as it:
            await fleet.push("q", encode("test:sound", "q", {"n": 1}))
            await until(lambda: it.tally.processed == 1)
            await wait_all_tasks_blocked(0.05)  # at rest: it listens
            await fleet.push("q", sick(), encode("test:sound", "q", {"n": 2}))  # rings once
            await until(lambda: it.tally.processed == 3)


async def test_a_suspect_that_waits_is_not_taken_for_a_stray(redis_url: str, namespace: str) -> None:
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        async with working(redis_url, namespace, suspect, neighbour) as it:
            await until(lambda: it.pool.running == 2)
            own = await it.fleet.transport.call("CLIENT", "ID")
            before = await fleet.transport.call("HGET", fleet.keys.process(it.membership.id or ""), "seq")
            await fleet.transport.call("CLIENT", "KILL", "ID", own)
            await fleet.push("other", encode("test:sound", "other", {}))

            async def reconciled() -> bool:
                seq = await fleet.transport.call("HGET", fleet.keys.process(it.membership.id or ""), "seq")
                return int(seq) > int(before)

            with capture_logs() as lines:
                neighbour.may_end.set()
                await until(reconciled)
                await until(lambda: suspect.runs == 1)
            assert not [line for line in lines if "put_back" in line]
            assert await waiting(fleet) == []
            suspect.may_end.set()
            await until(lambda: it.tally.processed == 3)
            assert suspect.runs == 1


async def test_a_suspect_that_redis_has_forgotten_is_not_run(redis_url: str, namespace: str) -> None:
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        async with working(redis_url, namespace, suspect, neighbour) as it:
            await until(lambda: it.pool.running == 2)
            own = await it.fleet.transport.call("CLIENT", "ID")
            inflight = fleet.keys.inflight(it.membership.id or "")
            (slot,) = [slot for slot, entry in (await fleet.hash(inflight)).items() if sick() in entry]
            await fleet.transport.call("HDEL", inflight, slot)
            await fleet.transport.call("CLIENT", "KILL", "ID", own)
            neighbour.may_end.set()
            await fleet.push("q", encode("test:sound", "q", {"n": 2}))
            await until(lambda: it.tally.processed == 2)
            assert suspect.runs == 0


@pytest.mark.parametrize("grace", [30, 0])
async def test_a_suspect_that_was_taken_runs_within_the_grace_period(
    redis_url: str, namespace: str, grace: int
) -> None:
    suspect, neighbour = Sick.fresh(), Sound.fresh()
    suspect.may_end.set()
    await suspected(redis_url, namespace, sick())
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        async with working(redis_url, namespace, suspect, neighbour, grace=grace) as it:
            await until(lambda: it.pool.running == 2)
            it.draining.set()
            await wait_all_tasks_blocked(0.01)
            if grace:
                neighbour.may_end.set()
                await it.ended.wait()
                assert (suspect.runs, await waiting(fleet)) == (1, [])
            else:
                await it.ended.wait()
                assert await it.membership.leave() == 2
                assert suspect.runs == 0
                assert await waiting(fleet) == [encode("test:sound", "q", {}), sick()]
                assert await fleet.hash(fleet.keys.deaths) != {}


async def test_a_child_that_is_poison_is_counted_as_failed_once(redis_url: str, namespace: str) -> None:
    poison = Sick.fresh()
    async with working(redis_url, namespace, poison, slots=1) as it:
        fan_out = await it.actions.fan_out("test:sick", [{}])
        await until(lambda: poison.runs == 1)
        await kill(it)
    for deaths in range(2, MAX_DEATHS + 1):
        async with working(redis_url, namespace, poison, slots=2) as it:
            await until(lambda deaths=deaths: poison.runs == deaths)
            await kill(it)
    async with working(redis_url, namespace, poison, slots=2) as it:
        await until(lambda: it.tally.failed == 1)
        status = await it.actions.fan_out_status(fan_out.fan_out_id)
        assert (status.total, status.completed, status.failed) == (1, 0, 1)
        (error,) = status.errors
        assert error["error"]["type"] == "PoisonJob"
        assert poison.runs == MAX_DEATHS


async def test_a_poison_job_that_is_given_up_does_not_wait_for_others(redis_url: str, namespace: str) -> None:
    poison, neighbour = Sick.fresh(), Sound.fresh()
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", sick())
        for _ in range(MAX_DEATHS):
            await die(fleet, sick())
        await fleet.transport.call("LPUSH", fleet.keys.queue("q"), encode("test:sound", "q", {}))
        await fleet.push("q", encode("test:sound", "q", {"n": 2}))
        async with working(redis_url, namespace, poison, neighbour) as it:
            await until(lambda: it.tally.failed == 1 and neighbour.runs == 2)
            assert (poison.runs, it.tally.processed) == (0, 0)
            neighbour.may_end.set()


async def test_nobody_asks_for_deaths_while_there_are_none(redis_url: str, namespace: str) -> None:
    """What is checked for every job costs every job."""
    async with open_fleet(redis_url, namespace) as fleet, open_fleet(redis_url, namespace) as other:
        _, cycle = await fleet.member(slots=3)
        await fleet.push("q", *(element(n) for n in range(3)))
        jobs = (await cycle.exchange([], [1, 2, 3], NOW)).popped
        await other.transport.call("CONFIG", "RESETSTAT")
        await cycle.exchange([done(job) for job in jobs], [1, 2, 3], NOW)
        stats = await other.transport.call("INFO", "commandstats")
        assert "cmdstat_exists:calls=1," in stats.decode()
        assert "hdel:calls=1," in stats.decode()  # the slots
