"""What callers get to see of a fan-out: the result of starting it, and its status. Pure.

Both are mappings with the keys that they have as JSON, and attributes of the same names in snake case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn


class _Frozen(dict[str, Any]):
    """A mapping that every JSON encoder takes as it is, and that nobody changes."""

    __slots__ = ()

    def _refuse(self, *_args: object, **_options: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is read-only")

    __setitem__ = __delitem__ = __ior__ = _refuse  # pyright: ignore[reportAssignmentType]
    clear = pop = popitem = setdefault = _refuse  # pyright: ignore[reportAssignmentType]
    update = _refuse  # pyright: ignore[reportAssignmentType, reportUnknownMemberType]

    def __reduce__(self) -> tuple[Any, ...]:
        slots = {name: getattr(self, name) for name in type(self).__slots__}
        return _thawed, (type(self), dict(self)), (None, slots)


def _thawed(kind: type[_Frozen], values: dict[str, Any]) -> _Frozen:
    """For copy and pickle, which would else set one item after the other."""
    made = kind.__new__(kind)
    super(_Frozen, made).__init__(values)
    return made


class FanOutResult(_Frozen):
    """What ``fan_out()`` returns: a mapping with the seed's keys, each an attribute in snake case too.

    ``errors`` has ``index`` and ``error`` (a text) of each input that was not enqueued. ``action_name``
    and ``queue`` are lists, in the order in which they came up, unless there is exactly one.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        fan_out_id: str,
        action_name: str | list[str],
        queue: str | list[str],
        enqueued: int,
        errors: list[dict[str, Any]],
    ) -> None:
        super().__init__(
            fanOutId=fan_out_id, actionName=action_name, queue=queue, enqueued=enqueued, errors=errors
        )

    @property
    def fan_out_id(self) -> str:
        """The id to ask ``fan_out_status()`` for."""
        return self["fanOutId"]

    @property
    def action_name(self) -> str | list[str]:
        """The action of the children."""
        return self["actionName"]

    @property
    def queue(self) -> str | list[str]:
        """The queue that the children went to."""
        return self["queue"]

    @property
    def enqueued(self) -> int:
        """How many children there are."""
        return self["enqueued"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The inputs that were not enqueued."""
        return self["errors"]


class FanOutStatus(_Frozen):
    """What ``fan_out_status()`` returns: a mapping with the seed's five keys, which are attributes too.

    Only attributes are ``known`` (False for an id that is unknown or expired, which has zeros),
    ``sealed`` (no child can be added any more) and `finished`.
    """

    __slots__ = ("known", "sealed")

    def __init__(
        self,
        *,
        total: int = 0,
        completed: int = 0,
        failed: int = 0,
        results: Sequence[dict[str, Any]] = (),
        errors: Sequence[dict[str, Any]] = (),
        sealed: bool = False,
        known: bool = False,
    ) -> None:
        super().__init__(
            total=total, completed=completed, failed=failed, results=list(results), errors=list(errors)
        )
        self.sealed = sealed
        self.known = known

    @property
    def total(self) -> int:
        """How many children there are; of a fan-out of unknown length, how many so far."""
        return self["total"]

    @property
    def completed(self) -> int:
        """How many children have returned."""
        return self["completed"]

    @property
    def failed(self) -> int:
        """How many children have failed."""
        return self["failed"]

    @property
    def results(self) -> list[dict[str, Any]]:
        """An entry of each child that returned, in the order in which they did."""
        return self["results"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """An entry of each child that failed, in the order in which they did."""
        return self["errors"]

    @property
    def finished(self) -> bool:
        """Whether every child has ended, and none can be added."""
        return self.sealed and self.completed + self.failed == self.total
