"""Runs one action as a command: flags in, the result out as JSON.

Owns where its output goes, and which fan-outs are followed. What the action does and which of its errors a
caller may see is the executor's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from trioaction.cli import commands, output
from trioaction.cli.fan_out import tell_how_to_cancel
from trioaction.cli.flags import Call, flags_of, parse
from trioaction.cli.follow import Followed, following
from trioaction.cli.interrupt import run_interruptible
from trioaction.cli.progress import going_on
from trioaction.cli.project import named, project
from trioaction.config import Settings
from trioaction.connection import Connection
from trioaction.errors import TrioactionError
from trioaction.fanout.record import is_attached
from trioaction.foundation import command_runtime
from trioaction.outcome import Outcome, encode_result
from trioaction.registry import Registry


@dataclass(slots=True)
class Run:
    """One call, and what came of it so far."""

    call: Call
    outcome: Outcome | None = None
    followed: Followed | None = None


def call_action(name: str, words: Sequence[str]) -> int:
    """Run the action with the flags in ``words``, print its result or error, and return the exit code."""
    settings, registry = project()
    spec = named(name, registry, commands.app)
    call = parse(name, spec.description, flags_of(spec.model, spec.secrets), words)
    if call is None:
        return 0
    if call.quiet:
        settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "error"})})
    run = Run(call)
    with redirect_stdout(sys.stderr):  # an action that prints must not spoil its result for a pipe
        interrupted = run_interruptible(partial(_run, settings, registry, name, run))
    left, failed = _told(run)
    if run.outcome is None:
        assert interrupted is not None
        return interrupted
    code = _shown(run.outcome, quiet=call.quiet)
    return interrupted if interrupted and left else code or int(failed)


async def _run(settings: Settings, registry: Registry, name: str, run: Run) -> None:
    async with command_runtime(settings, registry) as runtime:
        caller = Connection(kind="cli", id=f"cli:{os.getpid()}")
        execute = partial(runtime.executor.execute, name, run.call.raw, caller)
        if not run.call.watch:
            await _execute(execute, run)
            return
        actions = runtime.services.actions
        async with following(actions) as run.followed:
            actions.on_fan_out = run.followed.follow
            await _execute(execute, run)


async def _execute(execute: Callable[[], Awaitable[Outcome]], run: Run) -> None:
    outcome = await execute()
    await trio.lowlevel.checkpoint_if_cancelled()  # who was interrupted is not asked for a result any more
    run.outcome = outcome


def _told(run: Run) -> tuple[bool, bool]:
    """Say which fan-outs go on, and which have not come to a good end; are there any?"""
    followed = run.followed
    if followed is None:
        return False, False
    # attached ones end with the block that opened them, whatever ends that
    left = [id for id in followed.unfinished if not is_attached(id)]
    for id in left:
        tell_how_to_cancel(id, going_on(followed.fan_outs[id].status, is_left=run.outcome is None))
    for id, trouble in followed.troubles.items():
        print(f"trioaction: Fan-out {id}: {trouble}", file=sys.stderr)
    return bool(left), bool(followed.troubles)


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
