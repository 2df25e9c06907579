"""Runs a command that looks at tasks or operates them: on the Redis of the project, with its secrets masked.

Redis is connected, or started, when it is first used; no lifespan of the application is opened, and no action
is run.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from trioaction.builtin.answers import plain
from trioaction.builtin.operation import Operation
from trioaction.cli import output
from trioaction.cli.interrupt import run_interruptible
from trioaction.cli.progress import printable
from trioaction.cli.project import project
from trioaction.config import Settings
from trioaction.errors import TrioactionError
from trioaction.foundation import Runtime, command_runtime
from trioaction.operate.tasks import Tasks
from trioaction.registry import Registry, registry_of
from trioaction.validation import validated


class WrongKey(TrioactionError):
    """A key in Redis is something else than it should be; the message names it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has found or done: as JSON, as lines, and what is to be said besides."""

    shown: Any
    lines: Sequence[str]
    notes: Sequence[str] = ()
    code: int = 0


@dataclass(frozen=True, slots=True)
class Desk:
    """Where tasks are operated."""

    runtime: Runtime
    registry: Registry

    @property
    def tasks(self) -> Tasks:
        """As `api.tasks`."""
        return self.runtime.services.tasks

    def plain(self, value: Any) -> Any:
        """Anything that `api.tasks` returns, as JSON, with secrets masked."""
        return plain(value, self.registry)

    async def ask(self, operation: type[Operation], inputs: Mapping[str, Any] | None = None) -> Any:
        """What one of the operations that HTTP has too answers, as JSON; inputs that are None are left out.

        A checkpoint; cancelled like the operation. Raises InvalidInput for inputs that do not fit.
        """
        spec = registry_of([operation]).get(operation.name)
        given = {key: value for key, value in (inputs or {}).items() if value is not None}
        words = (validated(spec, given, trusted=False),)
        return self.plain(await operation().run(*words[: spec.takes]))


Body = Callable[[Desk], Awaitable[Answer]]


def run(body: Body, *, json: bool) -> int:
    """Run a command, print its answer, and return its exit code."""
    answers: list[Answer] = []
    interrupted = operate(partial(_answer, body, answers))
    if not answers:
        assert interrupted is not None
        return interrupted
    return tell(answers[0], json=json)


def operate(body: Callable[[Desk], Awaitable[None]]) -> int | None:
    """Run it; the exit code if a signal cancelled it, else None."""
    settings, registry = project()
    return run_interruptible(partial(_run, settings, registry, body))


def tell(answer: Answer, *, json: bool) -> int:
    """Print an answer: what was asked for on standard output, all else on standard error."""
    if json:
        output.print_json(answer.shown)
    else:
        output.print_lines(answer.lines)
    for note in answer.notes:
        print(f"trioaction: {printable(note)}", file=sys.stderr)
    return answer.code


async def _answer(body: Body, answers: list[Answer], desk: Desk) -> None:
    answers.append(await body(desk))


async def _run(settings: Settings, registry: Registry, body: Callable[[Desk], Awaitable[None]]) -> None:
    # without the lifespans of the application, which may need a database that is away
    async with command_runtime(settings, Registry(registry)) as runtime:
        try:
            await body(Desk(runtime, registry))
        except ResponseError as error:
            raise WrongKey(str(error)) from error
