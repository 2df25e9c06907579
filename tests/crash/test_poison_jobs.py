"""A job that kills its process, in real processes that somebody starts again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from e2e.servers import ACTIONS, Server, job, launch, let_go, make_project, marks, on, orphans, processed
from engine.fleet import Fleet, open_fleet
from polling import until

from trioaction.config import TaskSettings

MAX_DEATHS = TaskSettings().max_deaths
POISON = """
import os
import signal
from actions.things import mark
from trioaction import Action, Task, api


class Poison(Action):
    name, task = "t:poison", Task(queue="q", retries=9)

    def run(self):
        mark("poison")
        os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_job_that_kills_its_process_is_given_up_and_all_others_are_run(
    tmp_path: Path, redis_url: str, namespace: str
) -> None:
    project = make_project(tmp_path, things=ACTIONS, poison=POISON)
    flags, settings = ("--no-web", "--concurrency", "4"), on(redis_url, namespace)
    async with open_fleet(redis_url, namespace) as fleet:
        await fleet.push("q", *(job("t:gate", n) for n in range(3)), job("t:poison", 0))
        await fleet.push("q", *(job("t:gate", n) for n in range(3, 12)))
        servers = [launch(project, *flags, **settings) for _ in range(2)]
        deaths: list[Server] = []

        async def given_up() -> bool:
            for server in list(servers):
                if server.process.poll() is not None:
                    let_go(project)
                    servers.remove(server)
                    deaths.append(server)
                    servers.append(launch(project, *flags, **settings))
            return bool(await fleet.list(fleet.keys.failed))

        try:
            await until(given_up, seconds=60)
            await until(lambda: all_done(fleet, 12))
            for server in servers:
                await server.up()
                assert await server.stop() == 0
        finally:
            for server in servers:
                server.kill()
        assert {server.process.returncode for server in deaths} == {-signal.SIGKILL}
        assert MAX_DEATHS <= len(deaths) == marks(project).count("poison") <= MAX_DEATHS + 2
        (entry,) = [json.loads(raw) for raw in await fleet.list(fleet.keys.failed)]
        assert (entry["exception"], entry["payload"]["class"]) == ("PoisonJob", "t:poison")
        assert {f"end {n}" for n in range(12)} <= set(marks(project))
        assert await fleet.hash(fleet.keys.deaths) == {}
        assert await orphans(fleet) == set()
        said = "".join(server.err for server in (*deaths, *servers))
        assert "runs alone" in said
        assert said.count("was given up") == 1


async def all_done(fleet: Fleet, count: int) -> bool:
    return await processed(fleet) == count
