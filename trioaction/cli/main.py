"""The entry point ``trioaction``: which command the words mean, and what the shell gets to see of errors.

No traceback for what a user can mend: a message on standard error and the exit code of the error (2 for wrong
usage or configuration, 130 for Ctrl-C). Neither help nor ``start``'s flags import the application.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import cast

from cyclopts import CycloptsError
from cyclopts.exceptions import UnusedCliTokensError

from trioaction.cli import commands, output
from trioaction.errors import TrioactionError

USAGE = 2
HELP = frozenset({"--help", "-h", "--version"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (that of the process if not given) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(words)
        output.print_lines(())  # of what the project has printed, nothing is left
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return _reader_gone()
    except CycloptsError as error:
        return _complain(_explained(error, words), USAGE)
    except (TrioactionError, BaseExceptionGroup) as error:
        return _complain_of_all(error)
    return code


def _dispatch(words: list[str]) -> int:
    output.check()
    if words[:1] == ["enqueue"] and len(words) > 1 and not words[1].startswith("-"):
        from trioaction.cli.enqueue import enqueue_action  # noqa: PLC0415

        return enqueue_action(words[1], words[2:])
    if not words or words[0].startswith("-") or words[0] in list(commands.app):
        with output.in_one() if _asks_for_help(words) else nullcontext():
            return commands.app(words) or 0
    from trioaction.cli.call import call_action  # noqa: PLC0415

    return call_action(words[0], words[1:])


def _asks_for_help(words: Sequence[str]) -> bool:
    """Flags for it are that everywhere; and where a command is left out, it is told which there are."""
    if not words or not HELP.isdisjoint(words):
        return True
    return len(words) == 1 and words[0] in list(commands.app) and not commands.app[words[0]].default_command


def _complain_of_all(error: TrioactionError | BaseExceptionGroup[BaseException]) -> int:
    """Errors of ours, alone or in a group, become messages; a bug keeps its traceback."""
    leaves = list(_leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, TrioactionError)]
    if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return 128 + signal.SIGINT
    if all(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        return _reader_gone()
    if len(ours) < len(leaves):
        raise error
    if any(isinstance(leaf, output.Unwritable) for leaf in ours):
        output.give_up()
    for leaf in ours:
        _complain(leaf.message, leaf.exit_code)
    return max(leaf.exit_code for leaf in ours)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _explained(error: CycloptsError, words: Sequence[str]) -> str:
    message = str(error)
    if isinstance(error, UnusedCliTokensError):
        message = f"Unexpected {' '.join(error.unused_tokens or ())!r}: every input is a flag."
    named = "".join(f"{word} " for word in _command_of(words))
    return f"{message} See `trioaction {named}--help`."


def _command_of(words: Sequence[str]) -> list[str]:
    """The words that name what was called: a command, and one of a group of commands."""
    if not words or words[0].startswith("-"):
        return []
    if words[0] == "enqueue":
        return [*words[:1], *(word for word in words[1:2] if not word.startswith("-"))]
    is_group = words[0] in list(commands.app) and len(words) > 1 and words[1] in list(commands.app[words[0]])
    return list(words[: 2 if is_group else 1])


def _complain(message: str, code: int) -> int:
    print(f"trioaction: {message}", file=sys.stderr)
    return code


def _reader_gone() -> int:
    """The reader of our output is gone (``| head``): end as if by SIGPIPE, with nothing left to flush."""
    output.give_up()
    return 128 + signal.SIGPIPE
