"""The setting that has a notation of its own: how many jobs of a queue may start in a time. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

DAY = 24 * 60 * 60
MOST_STARTS = 1_000_000
SHORTEST_WINDOW, LONGEST_WINDOW = 0.001, 365 * DAY
"""Of a rate limit, in seconds."""
_RATE = re.compile(r"(\d{1,9}) ?/ ?(\d{1,9}(?:\.\d{1,9})?)? ?(s|min|h|d)", re.ASCII)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": DAY}


class QueueRate(BaseModel):
    """How many jobs of a queue may start in ``per`` seconds; written ``"10/s"`` or ``"100/60s"``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    per: float

    @model_validator(mode="before")
    @classmethod
    def _read(cls, text: Any) -> Any:
        found = _RATE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError('a rate is jobs per time, like "10/s", "100/60s", "5/min", "200/h" or "1/d"')
        count, per = int(found[1]), float(found[2] or 1) * _UNITS[found[3]]
        if not (1 <= count <= MOST_STARTS and SHORTEST_WINDOW <= per <= LONGEST_WINDOW):
            raise ValueError(f"a rate is 1 to {MOST_STARTS:,} jobs in {SHORTEST_WINDOW} s to a year")
        return {"count": count, "per": per}

    @model_serializer
    def _text(self) -> str:
        return f"{self.count}/{self.per:.10g}s" if self.per != 1 else f"{self.count}/s"

    @property
    def window(self) -> int:
        """``per`` in whole milliseconds."""
        return math.ceil(round(self.per * 1000, 6))
