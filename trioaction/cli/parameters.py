"""Flags that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter


def _not_empty(_type: Any, value: Any) -> None:
    """An empty text is in every text: who gives one, out of a variable that is not set, would mean all."""
    if value == "":
        raise ValueError("It is empty: leave the flag out, or give --all, to mean all of them.")


Json = Annotated[bool, Parameter(name="--json", negative="", help="As JSON.", show_default=False)]
Yes = Annotated[bool, Parameter(name=("--yes", "-y"), negative="", help="Do not ask.", show_default=False)]
All = Annotated[bool, Parameter(negative="", help="All of them.", show_default=False)]
Ids = Annotated[str, Parameter(help="Ids as `list` tells them; the first 6 digits may do.")]
Action = Annotated[str | None, Parameter(validator=_not_empty, help="Only those of this action.")]
Queue = Annotated[str | None, Parameter(validator=_not_empty, help="Only those of this queue.")]
Contains = Annotated[
    str | None,
    Parameter(validator=_not_empty, help="Only those with this text in the exception or message."),
]
Inputs = Annotated[
    str | None, Parameter(name="--json-inputs", help="Only those with exactly these inputs: a JSON object.")
]
In = Annotated[str | None, Parameter(name="--in", help="After so long: 30 or 30s, 5m, 2h, 1d, 1h30m.")]
At = Annotated[
    str | None,
    Parameter(name="--at", help="Not before: 2026-12-24T08:00+01:00, with its zone, or Unix seconds."),
]
Limit = Annotated[int, Parameter(help="How many at most; 1000 are the most.")]
Offset = Annotated[int, Parameter(help="How many to leave out.")]
After = Annotated[str | None, Parameter(help="The `next` that the page before has told.")]
