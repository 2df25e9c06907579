"""What came of one call: a value, so that edges encode it and nothing is raised across rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_json

from trioaction.errors import ResultNotJson, TrioactionError

if TYPE_CHECKING:
    import trio


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call, or its error.

    ``error`` is what a client may see; ``exception`` is what was really raised (the same object unless
    an action crashed), for the log and the failed list. ``lingering`` is set only when a thread outlived
    its deadline: it fires when the thread has ended, and until then the thread holds its slot.
    """

    result: Any = None
    error: TrioactionError | None = None
    exception: BaseException | None = None
    seconds: float = 0.0
    lingering: trio.Event | None = None

    @property
    def ok(self) -> bool:
        """Whether the call returned."""
        return self.error is None


def encode_result(value: Any) -> bytes:
    """A result as JSON bytes: plain values, pydantic models, dataclasses, datetimes, UUIDs, sets, Decimals.

    NaN and infinities become null, because JSON has none. Raises ResultNotJson for anything else.
    """
    try:
        return to_json(value, inf_nan_mode="null")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ResultNotJson(str(error)) from error
