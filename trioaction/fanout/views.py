"""What callers get to see of a fan-out: the result of starting it, and its status. Pure.

Both are mappings with the keys that they have as JSON, and attributes of the same names in snake case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from pydantic_core import from_json

from trioaction.fanout.store import Snapshot


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

    ``errors`` has ``index`` and ``error`` (a text) of each input that was not enqueued; of very many the
    first ones, and the attribute ``refused`` counts all. ``action_name`` and ``queue`` are lists, in the
    order in which they came up, unless there is exactly one.
    """

    __slots__ = ("refused",)

    def __init__(
        self,
        *,
        fan_out_id: str,
        action_name: str | list[str],
        queue: str | list[str],
        enqueued: int,
        errors: list[dict[str, Any]],
        refused: int | None = None,
    ) -> None:
        super().__init__(
            fanOutId=fan_out_id, actionName=action_name, queue=queue, enqueued=enqueued, errors=errors
        )
        self.refused = len(errors) if refused is None else refused

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


class Report(NamedTuple):
    """How far a running child says that it is: ``done``, in units of its own, ``of`` so many if it knows."""

    done: float
    of: float | None = None


class FanOutStatus(_Frozen):
    """What ``fan_out_status()`` returns: a mapping with the seed's five keys, which are attributes too.

    Only attributes are: ``known`` (False for an id that is unknown or expired, which has zeros); how many
    children are ``running`` and how many of ``failed`` were ``cancelled``; ``sealed`` (no child can be added
    any more), ``cut_short`` (it was sealed before all were enqueued that there were to be), ``is_cancelled``
    and `finished`; the names ``actions`` and ``queues`` as far as they are known; ``reports``, by the index
    of the child, of what running children say of their own progress.
    """

    __slots__ = (
        *("known", "sealed", "running", "cancelled", "cut_short"),
        *("is_cancelled", "actions", "queues", "reports"),
    )

    def __init__(
        self,
        *,
        total: int = 0,
        completed: int = 0,
        failed: int = 0,
        results: Sequence[dict[str, Any]] = (),
        errors: Sequence[dict[str, Any]] = (),
        cancelled: int = 0,
        running: int = 0,
        sealed: bool = False,
        cut_short: bool = False,
        is_cancelled: bool = False,
        known: bool = False,
        actions: Sequence[str] = (),
        queues: Sequence[str] = (),
        reports: Mapping[int, Report] | None = None,
    ) -> None:
        super().__init__(
            total=total, completed=completed, failed=failed, results=list(results), errors=list(errors)
        )
        self.known = known
        self.sealed = sealed
        self.cut_short = cut_short
        self.cancelled = cancelled
        self.is_cancelled = is_cancelled
        self.running = running
        self.actions = tuple(actions)
        self.queues = tuple(queues)
        self.reports = dict(reports or {})

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

    def counters(self) -> dict[str, Any]:
        """How far it has come, without what came of each child, as JSON for those who only watch."""
        return {
            **{name: self[name] for name in ("total", "completed", "failed")},
            **{"cancelled": self.cancelled, "running": self.running, "finished": self.finished},
        }


def status_of(
    snapshot: Snapshot, results: Sequence[dict[str, Any]] = (), errors: Sequence[dict[str, Any]] = ()
) -> FanOutStatus:
    """A record as callers see it, with the entries that were asked for."""
    return FanOutStatus(
        total=snapshot.total,
        completed=snapshot.completed,
        failed=snapshot.failed,
        results=results,
        errors=errors,
        cancelled=snapshot.cancelled,
        running=snapshot.running,
        sealed=snapshot.sealed,
        cut_short=snapshot.cut_short,
        is_cancelled=snapshot.is_cancelled,
        known=True,
        actions=_listed(snapshot.action),
        queues=_listed(snapshot.queue),
        reports=_reports(snapshot.notes),
    )


def _listed(names: str) -> Sequence[str]:
    value = from_json(names)
    return [value] if isinstance(value, str) else value


def _reports(notes: Sequence[bytes]) -> dict[int, Report]:
    """From pairs of an index and what `write_report` wrote; what somebody else has written is passed over."""
    reports: dict[int, Report] = {}
    for at in range(0, len(notes), 2):
        with suppress(ValueError):
            reports[int(notes[at])] = read_report(notes[at + 1])
    return reports


def write_report(report: Report) -> str:
    """A report as records keep it."""
    return f"{report.done:.15g}" if report.of is None else f"{report.done:.15g}/{report.of:.15g}"


def read_report(text: bytes) -> Report:
    """The report that `write_report` wrote. Raises ValueError for another text."""
    done, _, of = text.decode().partition("/")
    return Report(float(done), float(of) if of else None)
