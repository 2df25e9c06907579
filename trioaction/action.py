"""What an application declares: ``Action``, ``Task``, ``Schedule``, ``Web``, ``Middleware`` and their parts.

Declarations only: nothing here runs an action or does I/O. ``registry`` checks them at start-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trioaction.connection import Connection
    from trioaction.outcome import Outcome

HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a job waits for its next attempt: exponential, with jitter.

    ``first`` seconds after the first attempt, ``factor`` times as long after each further one, ``longest`` at
    most. Chance takes away up to the part ``jitter`` of it, so that jobs that failed together do not come
    back together.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.5

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after ``attempt`` (1 is the first) failed; ``chance`` is between 0 and 1."""
        doublings = min(attempt - 1, 64)  # far beyond any sensible `longest`, and no overflow
        return min(self.longest, self.first * self.factor**doublings) * (1 - self.jitter * chance)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` starts in any ``per`` seconds (or a ``timedelta``), over the whole fleet."""

    count: int
    per: float | timedelta = 1.0

    @property
    def window(self) -> int:
        """``per`` in whole milliseconds."""
        return math.ceil(round(_seconds(self.per) * 1000, 6))


@dataclass(frozen=True, slots=True)
class Schedule:
    """One of several times at which an action recurs, under a ``name`` of its own.

    Either ``cron`` (of ``timezone``) or ``frequency``, as `Task` has them. Its jobs have these ``inputs`` and
    go to ``queue``, or to that of the `Task`.
    """

    name: str
    _: KW_ONLY
    cron: str | None = None
    timezone: str | None = None
    frequency: float | timedelta | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False, repr=False)
    queue: str | None = None

    @property
    def interval(self) -> float | None:
        """The frequency in seconds, or None if it has none."""
        return _interval(self.frequency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """How an action runs as a background job.

    ``queue`` is required. ``frequency`` makes it recurring: a bare number is milliseconds, a
    ``timedelta`` says its own unit; one run per interval over the whole fleet. So does ``cron``, with five
    fields: ``"0 3 * * *"`` is each night at 3, by the clocks of ``timezone`` (``"Europe/Zurich"``; default:
    UTC). ``schedules`` are for several times, or for runs with inputs.

    A job that fails is run again up to ``retries`` times, ``backoff`` later (a `Backoff`, or always the same
    seconds or ``timedelta``), if what it raised is one of ``retry_on`` and none of ``no_retry_on``. Inputs
    that do not fit the action are never tried again. Processes that die, and shutdowns, cost no attempt.

    A job that has not started ``expires`` (seconds or a ``timedelta``) after it was enqueued, or was due, is
    not run any more, but fails with `JobExpired`. This holds for each attempt.

    ``rate`` is how many jobs of the action may start in a time: ``Rate(100, per=60)``. A job that must wait
    holds up those behind it in its queue.

    ``unique`` refuses a job while an equal one (action, queue, inputs) waits: ``"queued"`` in its queue,
    ``"delayed"`` for its time, True: in either. Of jobs that have the same values of the inputs named by
    ``concurrency_key`` one runs at a time, over the whole fleet; ``"*"`` stands for all inputs. Both compare
    what was given, before validation: 1 and "1" differ, and so do a default left out and one given.

    Other programs may enqueue it with several arguments, or with one that is no object: ``positional`` says
    which inputs those are, in their order.
    """

    queue: str = ""
    frequency: float | timedelta | None = None
    cron: str | None = None
    timezone: str | None = None
    schedules: Sequence[Schedule] = ()
    retries: int = 0
    backoff: Backoff | float | timedelta = Backoff()
    retry_on: tuple[type[Exception], ...] = (Exception,)
    no_retry_on: tuple[type[Exception], ...] = ()
    expires: float | timedelta | None = None
    rate: Rate | None = None
    unique: Literal[False, True, "queued", "delayed"] = False
    concurrency_key: str | Sequence[str] | None = None
    positional: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("schedules", "concurrency_key", "positional"):
            value: Any = getattr(self, name)
            if isinstance(value, list):  # declarations are for good, and hashable
                object.__setattr__(self, name, tuple(cast("list[Any]", value)))

    @property
    def interval(self) -> float | None:
        """The frequency in seconds, or None for an action that has none."""
        return _interval(self.frequency)

    @property
    def timetable(self) -> tuple[Schedule, ...]:
        """All its schedules; the one that it has itself comes first, and has no name."""
        if self.frequency is None and self.cron is None:
            return tuple(self.schedules)
        own = Schedule("", cron=self.cron, timezone=self.timezone, frequency=self.frequency)
        return (own, *self.schedules)

    @property
    def lifetime(self) -> int | None:
        """``expires`` in milliseconds, or None for jobs that may start at any time."""
        return None if self.expires is None else max(1, round(_seconds(self.expires) * 1000))


@dataclass(frozen=True, slots=True)
class Web:
    """The HTTP route of an action, below the server's prefix: ``Web("GET", "/users/{id}")``."""

    method: HttpMethod
    route: str


class Middleware:
    """Code around an action: subclass it, override ``before`` or ``after``, list it in ``Action.middleware``.

    ``before`` runs in list order after validation; ``after`` in reverse order, for exactly those whose
    ``before`` has returned. Either may raise, preferably an ``ActionError``: the call then has that error
    (a later ``after`` sees it). Both run inside the action's deadline, and are cancelled at it.
    """

    async def before(self, params: Any, connection: Connection) -> Any:
        """Return new params for the next in line, or None to leave them."""

    async def after(self, params: Any, connection: Connection, outcome: Outcome) -> Any:
        """Return a new result, also in place of an error, or None to leave the outcome as it is."""


class Action:
    """One unit of work: an HTTP endpoint, a websocket call, a CLI command and a background job at once.

    A subclass sets ``name`` and defines ``run(self)``, ``run(self, params)`` or
    ``run(self, params, connection)``: ``async def`` runs on Trio, plain ``def`` in a thread (which
    cannot be cancelled). ``params`` is the validated ``Inputs`` model, or an empty dict without one.
    Each call gets an instance of its own. What ``run`` returns is the result, as JSON for remote callers.

    ``timeout`` is in seconds (or a ``timedelta``); None takes the configured default, 0 means none.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    Inputs: ClassVar[type[BaseModel] | None] = None
    task: ClassVar[Task | None] = None
    web: ClassVar[Web | None] = None
    middleware: ClassVar[Sequence[Middleware]] = ()
    timeout: ClassVar[float | timedelta | None] = None
    run: Callable[..., Any]


def secret(default: Any = ..., **options: Any) -> Any:
    """A pydantic ``Field`` whose value is never logged or echoed: ``token: str = secret()``.

    Takes the options of ``pydantic.Field``. Fields of type ``SecretStr`` or ``SecretBytes`` need no mark.
    """
    from pydantic import Field  # noqa: PLC0415  (keeps `import trioaction` free of pydantic until used)

    extra: dict[str, Any] = options.pop("json_schema_extra", None) or {}
    return Field(default, json_schema_extra={**extra, "secret": True}, **options)


def seconds_of(time: float | timedelta | None) -> float | None:
    """Seconds, where they may be declared as a ``timedelta`` too."""
    return None if time is None else _seconds(time)


def _seconds(time: float | timedelta) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time


def _interval(frequency: float | timedelta | None) -> float | None:
    return frequency / 1000 if isinstance(frequency, int | float) else seconds_of(frequency)
