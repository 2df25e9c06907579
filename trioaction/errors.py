"""The one error hierarchy: what a caller may meet, and what each edge answers.

    TrioactionError                    HTTP  exit
    ├── StartupError                    500     2   start-up stops with this message
    │   ├── ConfigError                             a setting is unknown or has a bad value
    │   ├── ActionDefinitionError                   an action class is declared wrongly
    │   └── EmbeddedServerError                     the embedded Redis could not be started
    ├── ActionError                     400     1   raised (or subclassed) by applications: shown as it is
    ├── InvalidInput                    422     2   inputs do not fit the action's model; has every problem
    ├── MalformedRequest                400     2   not JSON, not an object, not a message
    ├── Unauthorized                    401     1   no password, or a wrong one; never says which
    ├── ForeignOrigin                   403     1   a web page of another host, which no setting allows
    ├── Forbidden                       403     1   not for this client; the message names the setting
    ├── ForeignHost                     421     2   the request names a host that is not this server's
    ├── UnknownAction                   404     2   no action (or route) of that name
    ├── MethodNotAllowed                405     2   the route exists, for other methods
    ├── RequestTimeout                  408     1   the client sent its request too slowly
    ├── PayloadTooLarge                 413     2   over a size limit, which the message names
    ├── HeadersTooLarge                 431     2   the same for a request's line and headers
    ├── UnsupportedMediaType            415     2   a body that no action reads
    ├── RateLimited                     429     1   over a rate limit
    ├── ActionTimeout                   504     1   the action's own deadline passed
    ├── Unavailable                     503     1   not now: Redis is away, or the process is draining
    │   ├── RedisUnavailable                        names what may or may not have run
    │   ├── FanOutLost                              this process was taken for dead while it waited
    │   └── FanOutCancelled                         somebody cancelled what it waited for
    ├── ChildFailed                     500     1   a child of an open fan-out; has what its process knew
    ├── ResultTooLarge                  500     1   a child returned more than its fan-out keeps
    ├── JobsNotSent                     500     1   a change was made, but what was to follow is lost
    ├── JobError                        500     1   a job element that cannot be run as it is
    ├── PoisonJob                       500     1   a job that killed its process again and again
    ├── JobExpired                      500     1   a job that had not started when its time was up
    ├── ResultNotJson                   500     1   an action returned what JSON cannot carry
    ├── ServerFailed                    500     1   a mistake of the server itself; the log has the traceback
    └── ActionCrashed                   500     1   any other exception of an action; shows no internals

The wire form of all is ``to_json()``; nothing else turns errors into statuses, exit codes or JSON.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar


def text_of(error: BaseException) -> str:
    """What an exception says; one of an application may fail even at that."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} that cannot be printed>"


class TrioactionError(Exception):
    """Base of every error that trioaction raises on purpose.

    ``key`` and ``value`` name the input or setting that is wrong, where there is one. ``value`` is
    echoed to the caller: never pass a secret.
    """

    http_status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    exit_code: ClassVar[int] = 1
    public_message: ClassVar[str | None] = None
    """Shown to clients in place of the message, where the message has internals in it."""

    def __init__(self, message: str, *, key: str | None = None, value: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.value = value

    @property
    def type(self) -> str:
        """The error's name on the wire: the class name."""
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """The form that HTTP, websocket and CLI callers get under ``error``; ``timestamp`` in ms."""
        body: dict[str, Any] = {
            "message": self.public_message or self.message,
            "type": self.type,
            "timestamp": time.time_ns() // 1_000_000,
        }
        if self.key is not None:
            body["key"] = self.key
        if self.value is not None:
            body["value"] = self.value
        return body


class StartupError(TrioactionError):
    """The process cannot start; the message says what to change."""

    exit_code = 2


class ConfigError(StartupError):
    """A setting is unknown, malformed or out of range."""


class ActionDefinitionError(StartupError):
    """An action class is declared wrongly; the message names its file and class."""


class EmbeddedServerError(StartupError):
    """The embedded Redis server is missing or could not be started."""


class ActionError(TrioactionError):
    """For applications: a failure whose message the caller may read.

    Subclass it to set ``http_status``; the class name is the ``type`` on the wire.
    """

    http_status = HTTPStatus.BAD_REQUEST


@dataclass(frozen=True, slots=True)
class FieldError:
    """One problem with one input; ``value`` is left out (None) for secrets and missing inputs."""

    field: str
    message: str
    value: Any = None

    def to_json(self) -> dict[str, Any]:
        """``value`` only where there is one to show."""
        body: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.value is not None:
            body["value"] = self.value
        return body


class InvalidInput(TrioactionError):
    """Inputs do not fit the action; ``errors`` carries every problem, not only the first."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    exit_code = 2

    def __init__(self, errors: list[FieldError]) -> None:
        first = errors[0]
        summary = "; ".join(f"{e.field}: {e.message}" for e in errors)
        super().__init__(f"Invalid input: {summary}", key=first.field, value=first.value)
        self.errors = errors

    def to_json(self) -> dict[str, Any]:
        """The common form, with the list of all problems."""
        return super().to_json() | {"errors": [e.to_json() for e in self.errors]}


class MalformedRequest(TrioactionError):
    """What arrived is not of the form that the edge reads (broken JSON, not an object)."""

    http_status = HTTPStatus.BAD_REQUEST
    exit_code = 2


class Unauthorized(TrioactionError):
    """Who calls has not shown that he may. Never says what was wrong, which would help who guesses."""

    http_status = HTTPStatus.UNAUTHORIZED


class ForeignOrigin(TrioactionError):
    """A page of another site tries to call with its visitor's rights."""

    http_status = HTTPStatus.FORBIDDEN


class ForeignHost(TrioactionError):
    """A request for a host that is not this server's, as a page sends that has rebound its own name to us."""

    http_status = HTTPStatus.MISDIRECTED_REQUEST
    exit_code = 2


class Forbidden(TrioactionError):
    """Not for this client; the message names the setting that decides."""

    http_status = HTTPStatus.FORBIDDEN


class UnknownAction(TrioactionError):
    """No action of that name, or no route for that path."""

    http_status = HTTPStatus.NOT_FOUND
    exit_code = 2


class MethodNotAllowed(TrioactionError):
    """The path has actions, but none for this method; ``allowed`` lists the methods it has."""

    http_status = HTTPStatus.METHOD_NOT_ALLOWED
    exit_code = 2

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(TrioactionError):
    """The client took too long to send its request."""

    http_status = HTTPStatus.REQUEST_TIMEOUT


class PayloadTooLarge(TrioactionError):
    """Over a size limit; the message names the limit."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    exit_code = 2


class HeadersTooLarge(TrioactionError):
    """A request line and headers over the size limit."""

    http_status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    exit_code = 2


class UnsupportedMediaType(TrioactionError):
    """A request body of a type that no action reads."""

    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    exit_code = 2


class RateLimited(TrioactionError):
    """Too many calls in too little time."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS


class ActionTimeout(TrioactionError):
    """The action ran longer than its ``timeout`` and was cancelled."""

    http_status = HTTPStatus.GATEWAY_TIMEOUT


class Unavailable(TrioactionError):
    """Not now; the same call may succeed later."""

    http_status = HTTPStatus.SERVICE_UNAVAILABLE


class RedisUnavailable(Unavailable):
    """Redis cannot be reached, or went away while a command was under way."""

    @property
    def type(self) -> str:
        """One name for all kinds of it: callers do not care which."""
        return "RedisUnavailable"

    public_message = "Redis is not reachable right now; try again in a moment"


class FanOutLost(Unavailable):
    """A fan-out that this process waited for is not its own any more; its children were cancelled."""

    public_message = "The work was interrupted; start it again"


class FanOutCancelled(Unavailable):
    """Somebody cancelled a fan-out by its id, while this process waited for it or enqueued its children."""

    public_message = "The work was cancelled"


class ChildFailed(TrioactionError):
    """A child of a fan-out failed.

    The message is for everybody. What was really raised, and where, is in ``remote_type``,
    ``remote_message`` and ``remote_traceback``: for logs, and not for clients. ``params`` are the child's
    inputs, secrets masked; they are empty where they were too large to be kept.
    """

    def __init__(
        self,
        message: str,
        *,
        action: str,
        index: int,
        params: Mapping[str, Any],
        remote_type: str,
        remote_message: str,
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.action = action
        self.index = index
        self.params = params
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback
        if remote_traceback:
            self.add_note(f"In the child's process:\n{remote_traceback.rstrip()}")


class ResultTooLarge(TrioactionError):
    """A child returned, but its result is larger than what a fan-out keeps."""


@dataclass(frozen=True, slots=True)
class UnsentJob:
    """One job that was to follow a commit; ``due`` is when (Unix seconds), if it was put off."""

    action: str
    queue: str
    inputs: Mapping[str, Any]
    due: float | None = None


class JobsNotSent(TrioactionError):
    """A block of ``after_commit()`` has succeeded, but ``left`` of its ``total`` jobs were not sent.

    They are ``jobs``, which can be iterated at any time, to be written down elsewhere; some of them may have
    been sent, if the connection was lost meanwhile. Who repeats the call makes the change once more.
    """

    public_message = (
        "The change was made, but not all the work that is to follow it could be started; "
        "do not simply send the request again"
    )

    def __init__(self, message: str, *, left: int, total: int, jobs: Iterable[UnsentJob]) -> None:
        super().__init__(message)
        self.left = left
        self.total = total
        self.jobs = jobs


class JobError(TrioactionError):
    """A job element that cannot be run as it stands in Redis (not JSON, no class, bad args)."""


class PoisonJob(TrioactionError):
    """A job that is not run any more: each process that ran it alone was lost."""

    def __init__(self, deaths: int) -> None:
        super().__init__(
            f"The process that ran this job was lost {deaths} times while it ran no other job: it died, or "
            "was not heard of for longer than its lease"
        )


class JobExpired(TrioactionError):
    """A job that is not run any more: it had not started when its time was up, ``late`` seconds ago."""

    def __init__(self, late: float) -> None:
        super().__init__(f"The job was not run: when its turn came, its time had been up for {late} s")


class ResultNotJson(TrioactionError):
    """An action returned something that JSON cannot carry; the message (for the log) says what."""

    public_message = "The action returned a result that cannot be sent as JSON"


class ServerFailed(TrioactionError):
    """A mistake of the server itself; the log has the traceback."""


class ActionCrashed(TrioactionError):
    """An action raised something unexpected: callers see this, the log has the traceback."""

    def __init__(self, action: str) -> None:
        super().__init__(f"The action {action} failed with an internal error")
