"""An `on_fan_out` that raises: the caller has its error, and no fan-out stays open that nobody knows of."""

from __future__ import annotations

import pytest
from engine.parents import open_parent
from polling import until


class Failed(Exception):
    """What a callback may raise."""


async def test_one_of_which_nobody_could_be_told_does_not_stay_open(redis_url: str, namespace: str) -> None:
    def fails(id: str) -> None:
        ids.append(id)
        raise Failed

    ids: list[str] = []
    async with open_parent(redis_url, namespace) as parent:
        parent.actions.on_fan_out = fails
        with pytest.raises(Failed):
            async with parent.actions.open_fan_out():
                pytest.fail("it has not begun")
        with pytest.raises(Failed):
            await parent.actions.fan_out("users:processOne", [{}])
        attached, detached = ids

        async def is_over() -> bool:
            return (await parent.record(attached)).get("is_cancelled") == "1" and not await parent.owned()

        await until(is_over)
        record = await parent.record(detached)
        assert (record["sealed"], record["total"], record["cut"]) == ("1", "0", "1")
