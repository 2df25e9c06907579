"""Flags that several commands have."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="As JSON.", show_default=False)]
Yes = Annotated[bool, Parameter(name=("--yes", "-y"), negative="", help="Do not ask.", show_default=False)]
All = Annotated[bool, Parameter(negative="", help="All of them.", show_default=False)]
Ids = Annotated[str, Parameter(help="Ids as `list` tells them; the first 6 digits may do.")]
Action = Annotated[str | None, Parameter(help="Only those of this action.")]
Queue = Annotated[str | None, Parameter(help="Only those of this queue.")]
Contains = Annotated[str | None, Parameter(help="Only those with this text in the exception or message.")]
Inputs = Annotated[
    str | None, Parameter(name="--json-inputs", help="Only those with exactly these inputs: a JSON object.")
]
Limit = Annotated[int, Parameter(help="How many at most; 1000 are the most.")]
Offset = Annotated[int, Parameter(help="How many to leave out.")]
After = Annotated[str | None, Parameter(help="The `next` that the page before has told.")]
