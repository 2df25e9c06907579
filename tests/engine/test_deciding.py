"""Functions that say which jobs are meant: those that cannot say it at once must not mean all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from engine.fleet import element, open_fleet

from trioaction.errors import InvalidInput
from trioaction.operate.tasks import Tasks
from trioaction.registry import registry_of


async def later(_job: Any) -> bool:
    await trio.lowlevel.checkpoint()
    return False


def hidden(job: Any) -> Any:
    return later(job)


CHOICES: dict[str, Callable[[Tasks, Any], Awaitable[Any]]] = {
    "queues.delete": lambda tasks, where: tasks.queues.delete("q", where),
    "failed.remove_all": lambda tasks, where: tasks.failed.remove_all(where),
    "failed.retry_all": lambda tasks, where: tasks.failed.retry_all(where),
    "delayed.delete_all": lambda tasks, where: tasks.delayed.delete_all(where),
    "delayed.run_all": lambda tasks, where: tasks.delayed.run_all(where),
    "delayed.reschedule_all": lambda tasks, where: tasks.delayed.reschedule_all(where, 4102444800),
    "retries.delete_all": lambda tasks, where: tasks.retries.delete_all(where),
    "retries.run_all": lambda tasks, where: tasks.retries.run_all(where),
}
WRONG: dict[str, Any] = {"async": later, "behind a function": hidden, "no function": 3}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_does_not_say_yes_or_no_takes_nothing(
    redis_url: str, namespace: str, name: str, wrong: str
) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        tasks = Tasks(fleet.transport, fleet.keys, registry_of([]), timeout=300, lease=30)
        keys, raw = fleet.keys, element(1)
        await fleet.push("q", raw)
        await fleet.transport.call("RPUSH", keys.failed, b'{"queue":"q","payload":' + raw + b"}")
        await fleet.transport.call("RPUSH", keys.delayed(4000000000), raw)
        await fleet.transport.call("ZADD", keys.schedule, 4000000000, 4000000000)
        await fleet.transport.call("ZADD", keys.retry, 4000000000000, raw)
        before = await fleet.all_keys()
        with pytest.raises(InvalidInput, match="yes or no"):
            await CHOICES[name](tasks, WRONG[wrong])
        assert await fleet.all_keys() == before


async def test_any_answer_counts_as_python_has_it(redis_url: str, namespace: str) -> None:
    async with open_fleet(redis_url, namespace) as fleet:
        tasks = Tasks(fleet.transport, fleet.keys, registry_of([]), timeout=300, lease=30)
        await fleet.push("q", *map(element, range(3)))
        assert await tasks.queues.delete("q", lambda job: job.inputs["n"]) == 2  # type: ignore[arg-type,return-value]
