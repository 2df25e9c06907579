"""What the tests of an application rest on: `trioaction.testing` itself, with the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from trioaction import api
from trioaction.errors import UnknownAction


async def test_what_a_test_raises_comes_out_as_it_is(boot: Any) -> None:
    with pytest.raises(UnknownAction):
        async with boot():
            await api.actions.enqueue("no:such:action")


async def test_jobs_wait_for_the_test_that_runs_them(boot: Any) -> None:
    async with boot() as app:
        await api.actions.enqueue("messages:list")
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            await app.until_idle()
        await app.run_jobs()
        await app.until_idle()


async def test_jobs_that_do_not_end_are_an_error_and_go_back(boot: Any) -> None:
    async with boot(settings={"tasks": {"queues": ["worker"]}}) as app:
        await api.actions.enqueue("messages:list", queue="elsewhere")
        with pytest.raises(trio.TooSlowError):
            await app.run_jobs(seconds=0)
        assert await api.redis.llen(f"{app.runtime.keys.namespace}:queue:elsewhere") == 1
        await app.run_jobs()


async def test_a_command_has_the_settings_of_the_application(boot: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/another.db"
    settings = {"database": {"url": url}, "tasks": {"queues": ["a", "b"], "concurrency": 3}}
    async with boot(settings=settings) as app:
        await app.call("messages:create", {"body": "Hello"})
        listed = await app.cli("messages:list", "-q")
        assert [message["body"] for message in listed.result["messages"]] == ["Hello"]
        shown = (await app.cli("config", "--json")).result
        assert (shown["tasks"]["queues"], shown["tasks"]["concurrency"]) == (["a", "b"], 3)
        assert shown["redis"]["namespace"] == app.runtime.keys.namespace
