"""`GET /metrics` of several processes: whoever is asked answers for all."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from e2e.servers import Server, on
from e2e.several import children, everybody, make_several, several, told
from polling import until
from prometheus_client.parser import text_string_to_metric_families

LABELLED = {"trioaction_slots", "trioaction_redis_up", "trioaction_calls_running", "process_open_fds"}
ONCE = {"trioaction_queues", "trioaction_processes", "trioaction_build_info", "trioaction_unheard_processes"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_several(tmp_path)


class Scrape:
    """One page, which must be one that Prometheus takes."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.startswith("#")]
        assert len(set(lines)) == len(lines), "HELP and TYPE come once for each family"
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        found = [sample for family in self.families.values() for sample in family.samples]
        counted = Counter((sample.name, tuple(sorted(sample.labels.items()))) for sample in found)
        assert max(counted.values()) == 1, "no series comes twice"
        self.samples = found

    def __call__(self, name: str, **labels: str) -> dict[str, float]:
        """Of each process, the value."""
        return {
            sample.labels.get("process", ""): sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }


async def scrape(server: Server) -> Scrape:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as http:
        reply = await http.get("/metrics")
    assert reply.status_code == 200
    return Scrape(reply.text)


async def test_whoever_is_asked_tells_of_all(project: Path, redis_url: str, namespace: str) -> None:
    async with several(project, 3, "--concurrency", "4", **on(redis_url, namespace)) as server:
        await everybody(server, 3)
        asked = len(told(server, "action"))
        page = await scrape(server)
        assert page("trioaction_slots") == {"1": 4, "2": 4, "3": 4}
        for name in LABELLED:
            assert set(page(name)) == {"1", "2", "3"}, name
        for name in ONCE:
            assert set(page(name)) == {""}, name
        calls = page("trioaction_calls_total", action="t:who", outcome="ok")
        assert sum(calls.values()) == asked
        assert page("trioaction_call_duration_seconds_count", action="t:who") == calls
        assert page("trioaction_processes") == {"": 3}
        assert page("trioaction_unheard_processes") == {"": 0}
        assert all(family.documentation for family in page.families.values())
        # another process may be asked: it tells the same
        for _ in range(10):
            again = await scrape(server)
            assert again("trioaction_calls_total", action="t:who", outcome="ok") == calls
        assert await server.stop(seconds=40) == 0


async def test_one_that_does_not_answer_is_left_out_and_counted(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = on(redis_url, namespace, TRIOACTION_TASKS__LEASE="60")
    async with several(project, 3, **settings) as server:
        stopped = children(server.process.pid)[1]
        os.kill(stopped, signal.SIGSTOP)
        page = await scrape(server)
        assert page("trioaction_unheard_processes") == {"": 1}
        assert len(page("trioaction_slots")) == 2
        os.kill(stopped, signal.SIGCONT)
        await until(lambda: all_heard(server))
        assert await server.stop(seconds=40) == 0


async def all_heard(server: Server) -> bool:
    return (await scrape(server))("trioaction_unheard_processes") == {"": 0}


async def test_after_a_roll_and_a_crash_each_number_is_there_once(
    project: Path, redis_url: str, namespace: str
) -> None:
    async with several(project, 2, **on(redis_url, namespace)) as server:
        server.send(signal.SIGHUP)
        while not told(server, "rolling restart: all"):
            page = await scrape(server)
            assert set(page("trioaction_slots")) in ({"1"}, {"2"}, {"1", "2"})
        os.kill(children(server.process.pid)[0], signal.SIGKILL)
        await until(lambda: all_new(server), seconds=30)
        assert await server.stop(seconds=40) == 0


async def test_a_roll_switches_it_on_and_tells_what_it_does_not_change(
    project: Path, redis_url: str, namespace: str
) -> None:
    settings = project / "trioaction.toml"
    settings.write_text("[metrics]\nenabled = false\n")
    async with several(project, 2, **on(redis_url, namespace)) as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as http:
            assert (await http.get("/metrics")).status_code == 404
        settings.write_text('[web]\nhost = "127.0.0.2"\n')
        server.send(signal.SIGHUP)
        await until(lambda: told(server, "rolling restart: all"), seconds=40)
        assert set((await scrape(server))("trioaction_slots")) == {"1", "2"}
        (line,) = told(server, "settings are not obeyed")
        assert (line["web.host"], line["level"]) == ("127.0.0.2", "warning")
        assert not {"web.port", "server.processes"} & set(line)
        assert await server.stop(seconds=40) == 0


async def all_new(server: Server) -> bool:
    page = await scrape(server)
    return len(children(server.process.pid)) == 2 and set(page("trioaction_slots")) == {"1", "2"}
