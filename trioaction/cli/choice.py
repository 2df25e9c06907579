"""Which of many are meant: by ids, which may be abbreviated; and asking before anything is destroyed."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from trioaction.cli.desk import Answer
from trioaction.cli.progress import printable
from trioaction.cli.ticker import Ticker
from trioaction.errors import MalformedRequest

T = TypeVar("T")
SHORTEST, WHOLE = 6, 40
"""Digits of an id."""
_ID = re.compile(f"[0-9a-f]{{{SHORTEST},{WHOLE}}}")
NAMED = 3
"""Ids that are named of many."""


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """What was found, and the ids of which none was."""

    found: list[T]
    missing: list[str]


def read_ids(words: Sequence[str]) -> list[str]:
    """Ids as they were typed. Raises MalformedRequest for what is none."""
    ids = [word.strip().lower() for word in words]
    for id in ids:
        if not _ID.fullmatch(id):
            hint = f"one has {WHOLE} hexadecimal digits, of which the first {SHORTEST} may do"
            raise MalformedRequest(f"{printable(id[:100])!r} is no id: {hint}", key="ids")
    return ids


async def choose(
    ids: Sequence[str], items: AsyncIterator[T], id_of: Callable[[T], str], ticker: Ticker
) -> Chosen[T]:
    """Look for those with these ids; one for each time that an id is given.

    A checkpoint that changes nothing, cancelled or not. Raises MalformedRequest if an abbreviation is that
    of several ids.
    """
    wanted = Counter(ids)
    most = wanted.total()
    found: dict[str, list[T]] = {}
    async for item in items:
        id = id_of(item)
        is_meant = any(id.startswith(word) for word in wanted)
        ticker.see(chosen=is_meant)
        if is_meant and len(kept := found.setdefault(id, [])) < most:
            kept.append(item)
        if is_meant and _is_complete(wanted, found):
            break
    return _taken(wanted, found)


def read_inputs(text: str | None) -> dict[str, Any] | None:
    """What ``--json-inputs`` says. Raises MalformedRequest."""
    if text is None:
        return None
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise MalformedRequest(f"--json-inputs is not valid JSON: {error}", key="inputs") from None
    if not isinstance(value, dict):
        raise MalformedRequest("--json-inputs takes a JSON object", key="inputs")
    return cast("dict[str, Any]", value)


def check_chosen(ids: Sequence[str], filters: Mapping[str, object], *, all: bool) -> None:
    """Raise MalformedRequest unless it is said which are meant, in one way; ``filters`` has them by flag.

    Who gives --all and a filter means either, and nobody knows which.
    """
    given = " and ".join(flag for flag, value in filters.items() if value is not None)
    if not (ids or all or given):
        raise MalformedRequest(f"Say which: give ids, {', '.join(filters)} or --all", key="ids")
    if all and (ids or given):
        raise MalformedRequest(f"--all stands alone: leave out --all, or {given or 'the ids'}", key="all")
    if ids and given:
        raise MalformedRequest(f"An id stands alone: leave out the ids, or {given}", key="ids")


def may(question: str, *, yes: bool) -> bool:
    """Ask whether it may be done, unless that was said. Raises MalformedRequest where nobody can answer."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MalformedRequest(f"{question} There is nobody to ask: say so with --yes", key="yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    print("trioaction: Nothing was changed", file=sys.stderr)
    return False


def told(ids: Sequence[str], what: str, filters: dict[str, str | None]) -> str:
    """What is to be done with which, as a question has it."""
    if ids:
        return f"{len(ids):,} {what}" if len(ids) > NAMED else f"{what} {', '.join(ids)}"
    given = ", ".join(f"{name} {value!r}" for name, value in filters.items() if value is not None)
    return printable(f"all {what} with {given}" if given else f"all {what}")


async def act_on(
    chosen: Chosen[T], act: Callable[[T], Awaitable[bool]], id_of: Callable[[T], str]
) -> Chosen[T]:
    """Act on one after another; those that have gone meanwhile are missing.

    A checkpoint. When cancelled, what is done is done.
    """
    done, gone = list[T](), list(chosen.missing)
    for item in chosen.found:
        if await act(item):
            done.append(item)
        else:
            gone.append(id_of(item))
    return Chosen(done, gone)


def counted(what: str, number: int, missing: Sequence[str] | None = None) -> Answer:
    """How many were removed, retried or started; 1 is the exit code if that are none, or not all."""
    shown: dict[str, Any] = {what: number} | ({} if missing is None else {"missing": list(missing)})
    notes = (
        []
        if not missing
        else [f"There is none (any more) with the id {', '.join(missing[:NAMED])}{_more(missing)}"]
    )
    if not number and not missing:
        notes = ["There was none of these"]
    return Answer(shown, [f"{number:,} {what}"], notes, int(bool(missing) or not number))


def _more(ids: Sequence[str]) -> str:
    return f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""


def _is_complete(wanted: Counter[str], found: dict[str, list[Any]]) -> bool:
    """Is all there? Never for an abbreviation: what else begins so must be known."""
    return all(len(found.get(word, ())) >= number for word, number in wanted.items())


def _taken(wanted: Counter[str], found: dict[str, list[T]]) -> Chosen[T]:
    numbers, missing = Counter[str](), list[str]()
    for word, number in wanted.items():
        meant = [id for id in found if id.startswith(word)]
        if len(meant) > 1:
            named = f"{', '.join(meant[:NAMED])}{_more(meant)}"
            raise MalformedRequest(f"{word} is the beginning of several ids: {named}", key="ids")
        if meant:
            numbers[meant[0]] += number
        else:
            missing += [word] * number
    taken = [item for id, number in numbers.items() for item in found[id][:number]]
    short = [id for id, number in numbers.items() for _ in range(number - len(found[id]))]
    return Chosen(taken, missing + short)
