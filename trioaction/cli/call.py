"""Runs one action as a command: flags in, the result out as JSON.

Owns how a command is interrupted and where its output goes. What the action does and which of its errors a
caller may see is the executor's.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import trio

from trioaction.cli import commands, output
from trioaction.cli.flags import Call, flags_of, parse
from trioaction.cli.project import project
from trioaction.config import Settings
from trioaction.connection import Connection
from trioaction.errors import TrioactionError, UnknownAction
from trioaction.foundation import command_runtime
from trioaction.outcome import Outcome, encode_result
from trioaction.registry import Registry


def call_action(name: str, words: Sequence[str]) -> int:
    """Run the action with the flags in ``words``, print its result or error, and return the exit code."""
    settings, registry = project()
    if name not in registry:
        raise _unknown(name, registry)
    spec = registry.get(name)
    call = parse(name, spec.description, flags_of(spec.model, spec.secrets), words)
    if call is None:
        return 0
    if call.quiet:
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "error"})})
    with redirect_stdout(sys.stderr):  # an action that prints must not spoil its result for a pipe
        ended = trio.run(_run, settings, registry, name, call)
    if isinstance(ended, Outcome):
        return _shown(ended, quiet=call.quiet)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more would kill the interpreter while it shuts down
    return ended


async def _run(settings: Settings, registry: Registry, name: str, call: Call) -> Outcome | int:
    """The outcome, or the exit code of a command that was interrupted."""
    ended: list[Outcome | int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            command = trio.CancelScope()  # not the nursery's: who waits for the second signal must stay
            nursery.start_soon(_interrupt, signals, command, ended)
            with command:
                async with command_runtime(settings, registry) as runtime:
                    caller = Connection(kind="cli", id=f"cli:{os.getpid()}")
                    ended.append(await runtime.executor.execute(name, call.raw, caller))
            nursery.cancel_scope.cancel()
    return ended[0]


async def _interrupt(
    signals: AsyncIterator[int], command: trio.CancelScope, ended: list[Outcome | int]
) -> None:
    """The first signal cancels; the second ends the process, even beside a thread that does not return."""
    async for number in signals:
        if command.cancel_called:
            os._exit(128 + number)
        ended.append(128 + number)
        command.cancel()


def _shown(outcome: Outcome, *, quiet: bool) -> int:
    if outcome.error is not None:
        return _failed(outcome.error, quiet=quiet)
    result = encode_result(outcome.result)
    output.print_json(json.loads(result), one_line=quiet)
    return 0


def _failed(error: TrioactionError, *, quiet: bool) -> int:
    body: dict[str, Any] = {"error": error.to_json()}
    print(json.dumps(body, indent=None if quiet else 2, default=str), file=sys.stderr)
    return error.exit_code


def _unknown(name: str, registry: Registry) -> UnknownAction:
    known = [*commands.app, *(spec.name for spec in registry)]
    near = difflib.get_close_matches(name, [word for word in known if not word.startswith("-")], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UnknownAction(
        f"There is no command or action {name!r}{hint} (`trioaction actions` lists the actions)"
    )
