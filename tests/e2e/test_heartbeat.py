"""A server says that it lives."""

from __future__ import annotations

from pathlib import Path

from e2e.servers import make_project, on, started
from engine.fleet import open_fleet
from polling import until


async def test_a_server_renews_its_lease(tmp_path: Path, redis_url: str, namespace: str) -> None:
    project = make_project(tmp_path)
    alone = on(redis_url, namespace, TRIOACTION_TASKS__SCHEDULER="false")  # which would renew it too
    async with (
        open_fleet(redis_url, namespace) as fleet,
        started(project, "--no-web", **alone) as server,
    ):
        lease = fleet.keys.lease(server.id)

        async def renewed() -> bool:
            return await fleet.transport.call("PTTL", lease) > 25_000

        for _ in range(3):  # what a pool does when it starts renews it, but not again
            await fleet.transport.call("PEXPIRE", lease, 20_000)
            await until(renewed)
        assert await server.stop() == 0
