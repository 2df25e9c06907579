"""What a fan-out is made of: batches of children, entries of those that ended, result and status. Pure.

Knows nothing of Redis and reads no clock. Memory stays constant whatever the number of children.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, TypeVar, cast

from trioaction.errors import InvalidInput, PayloadTooLarge, TrioactionError
from trioaction.outcome import encode_result
from trioaction.resque.payload import MAX_ELEMENT, Child, encode, encode_value, refuse_reserved

MAX_BATCH = MAX_ELEMENT
"""Bytes of jobs in one batch, which Redis takes in one go; a batch has at least one child."""
MAX_ENTRY = 64 * 1024
"""Bytes of the largest result or error entry that is kept in full."""
MASK = "[[secret]]"
_NAME_SHOWN = 200

T = TypeVar("T")


ChildJob = tuple[str, bytes]
"""One child, ready to be pushed: its queue and its element."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One child that cannot be a job, whose index is used up all the same."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Children that are registered together; ``first`` is the index of the first of them."""

    number: int
    first: int
    items: Sequence[ChildJob | Refusal]

    @property
    def end(self) -> int:
        """The highest index in it and one."""
        return self.first + len(self.items)

    def by_queue(self) -> dict[str, list[bytes]]:
        """The elements of each queue, in the order of their indexes."""
        queues: dict[str, list[bytes]] = {}
        for item in self.items:
            if isinstance(item, tuple):
                queues.setdefault(item[0], []).append(item[1])
        return queues

    def refusals(self) -> list[dict[str, Any]]:
        """What cannot be enqueued, as `FanOutResult.errors` lists it."""
        return [asdict(item) for item in self.items if isinstance(item, Refusal)]


class ChildJobs:
    """Makes the jobs of one fan-out's children, as ``payload.encode`` does but in half the time."""

    def __init__(self, fan_out_id: str) -> None:
        self._fan_out_id = fan_out_id
        self._heads: dict[tuple[str, str], str] = {}

    def __call__(self, index: int, action: str, queue: str, inputs: Any) -> ChildJob | Refusal:
        """The job; a `Refusal` for inputs that are not JSON, too large, or use reserved names."""
        if not isinstance(inputs, dict):
            if not isinstance(inputs, Mapping):
                return Refusal(index, f"Invalid input: inputs: not a mapping, but {type(inputs).__name__}")
            inputs = dict(cast("Mapping[Any, Any]", inputs))
        try:
            return queue, self._element(index, action, queue, cast("dict[str, Any]", inputs))
        except (InvalidInput, PayloadTooLarge) as error:
            return Refusal(index, error.message)

    def _element(self, index: int, action: str, queue: str, inputs: dict[str, Any]) -> bytes:
        head = self._heads.get((action, queue))
        if head is None:
            empty = encode(action, queue, {}, child=Child(self._fan_out_id, 0)).decode()
            head = self._heads[action, queue] = empty.removesuffix("0}]}")
        refuse_reserved(inputs)
        rest = encode_value(inputs)[1:]
        text = f"{head}{index},{rest}]}}" if inputs else f"{head}{index}}}]}}"
        if len(text) <= MAX_ELEMENT // 4:
            with suppress(UnicodeEncodeError):
                return text.encode()
        # it may be too long, or has half a surrogate pair: payload has the words for that
        return encode(action, queue, inputs, child=Child(self._fan_out_id, index))


class Batches(AsyncIterator[Batch]):
    """Any iterable, cut into batches of at most ``size`` children and ``max_bytes`` of jobs.

    ``job_of`` gets each child's index and input. Takes no more from ``inputs`` than the batch being made
    and one. A checkpoint only where ``inputs`` is one; when cancelled there, it can go on.
    """

    def __init__(
        self,
        inputs: Iterable[T] | AsyncIterable[T],
        job_of: Callable[[int, T], ChildJob | Refusal],
        *,
        size: int,
        max_bytes: int = MAX_BATCH,
    ) -> None:
        self._inputs: Any = aiter(inputs) if isinstance(inputs, AsyncIterable) else iter(inputs)
        self._job_of = job_of
        self._size = size
        self._max_bytes = max_bytes
        self._number = self._end = self._bytes = 0
        self._items: list[ChildJob | Refusal] = []

    async def __anext__(self) -> Batch:
        full = None
        if isinstance(self._inputs, AsyncIterator):
            async for one in cast("AsyncIterator[Any]", self._inputs):
                if full := self._add(one):
                    break
        else:
            full = self._fill()
        batch = full or self._cut()
        if batch is None:
            raise StopAsyncIteration
        return batch

    def _fill(self) -> Batch | None:
        for one in self._inputs:
            if full := self._add(one):
                return full
        return None

    def _add(self, one: Any) -> Batch | None:
        """Take the next child; returns the batch before it if there is no room for it there."""
        item = self._job_of(self._end, one)
        weight = len(item[1]) if isinstance(item, tuple) else 0
        full = len(self._items) >= self._size or self._bytes + weight > self._max_bytes
        batch = self._cut() if full else None
        self._items.append(item)
        self._bytes += weight
        self._end += 1
        return batch

    def _cut(self) -> Batch | None:
        if not self._items:
            return None
        batch = Batch(self._number, self._end - len(self._items), self._items)
        self._number += 1
        self._items, self._bytes = [], 0
        return batch


def encode_entry(
    *,
    index: int,
    action: str,
    params: Mapping[str, Any],
    secrets: frozenset[str],
    result: Any = None,
    error: TrioactionError | None = None,
) -> bytes:
    """The entry of a child that ended, for the results or (with ``error``) the errors of its fan-out.

    ``params`` are the inputs as they came with the job; those named in ``secrets`` are masked. Over
    64 KiB nothing is kept but which child it was. Raises ResultNotJson, for a ``result`` only.
    """
    if secrets:
        params = {key: MASK if key in secrets else value for key, value in params.items()}
    entry: dict[str, Any] = {"index": index, "action": action, "params": params}
    if error is None:
        entry["result"] = result
    else:
        entry["error"] = _shown_error(error)
    encoded = encode_result(entry)
    return encoded if len(encoded) <= MAX_ENTRY else _truncated(index, action, error)


def _shown_error(error: TrioactionError) -> dict[str, str]:
    message = error.public_message or error.message
    # an action may put anything into a message, even half a surrogate pair
    return {"type": error.type, "message": message.encode("utf-8", "backslashreplace").decode()}


def _truncated(index: int, action: str, error: TrioactionError | None) -> bytes:
    entry: dict[str, Any] = {"index": index, "action": action[:_NAME_SHOWN], "truncated": True}
    if error is not None:
        entry["error"] = {"type": error.type}
    return encode_result(entry)


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
