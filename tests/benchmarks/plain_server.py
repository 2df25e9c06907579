"""A plain Quart-Trio application behind trioaction's own connection code: the cost of no actions."""

from __future__ import annotations

from typing import Any

import trio
from quart import request
from quart_trio import QuartTrio

from trioaction.cli.output import print_lines
from trioaction.config import WebSettings
from trioaction.executor import Executor
from trioaction.registry import registry_of
from trioaction.web import serve as machinery


def application(*_args: Any, **_options: Any) -> QuartTrio:
    """Stands in for `trioaction.web.app.App`."""
    app = QuartTrio("plain", static_folder=None)

    @app.get("/api/bench/add")
    async def add() -> dict[str, int]:  # noqa: ASYNC124  (def would run in a thread)
        return {"sum": int(request.args["a"]) + int(request.args["b"])}

    return app


async def main() -> None:
    """Serve until killed, and print the URL. A checkpoint."""
    setattr(machinery, "App", application)  # noqa: B010  (another class, on purpose)
    executor = Executor(registry_of([]), timeout=300, threads=1, job_threads=1)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(_serve_web, executor)
        print_lines([url])


async def _serve_web(  # noqa: ASYNC128  (serve() reports)
    executor: Executor, task_status: trio.TaskStatus[str]
) -> None:
    await machinery.serve(
        WebSettings(port=0),
        executor,
        grace=0,
        ready=lambda: None,
        draining=trio.Event(),
        task_status=task_status,
    )


if __name__ == "__main__":
    trio.run(main)
