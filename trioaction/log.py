"""How the process logs: structlog over the standard library, to standard error; and how inputs are masked.

Owns the format, the level and how much of an input may be in a line; not what is worth a line.
"""

from __future__ import annotations

import logging
import reprlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.types import EventDict, Processor

if TYPE_CHECKING:
    from trioaction.config import LogSettings

MASK = "[[secret]]"
CHATTY = ("hypercorn", "hypercorn.access", "hypercorn.error", "quart", "quart.app", "quart.serving")
# One list for ever: loggers keep the one that they first saw, and structlog's test tools reach in through it.
_TO_STANDARD_LIBRARY: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    ProcessorFormatter.wrap_for_formatter,
]
_WHOLE = frozenset({"event", "exception", "stack"})


def configure(settings: LogSettings, *, process: int | None = None) -> None:
    """Send every logger of the process, structlog's or not, to standard error; may be called again.

    With the number of the ``process`` among several of one start, every line carries it.
    """
    terminal = sys.stderr.isatty()
    text = settings.format == "text" or (settings.format == "auto" and terminal)
    handler = _Handler(_StandardError())
    numbered = [] if process is None else [_Numbered(process)]
    renderers = _for_people(colours=terminal) if text else _for_machines()
    handler.setFormatter(_formatter([*numbered, *renderers]))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=_TO_STANDARD_LIBRARY,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def masked(values: Mapping[str, Any], secrets: frozenset[str], longest: int) -> dict[str, Any]:
    """Inputs as a log may have them: secrets masked, long values cut to ``longest`` characters."""
    return {key: MASK if key in secrets else shortened(value, longest) for key, value in values.items()}


def shortened(value: Any, longest: int) -> Any:
    """The value itself if it is short, else the beginning of its text."""
    if value is None or isinstance(value, bool | float):
        return value
    text = value if isinstance(value, str) else _preview(longest).repr(value)
    if len(text) > longest:
        return f"{text[:longest]}..."
    return text if "..." in text else value


def _preview(longest: int) -> reprlib.Repr:
    """Looks at as many items of a container as a line has room for, however large it is."""
    preview = reprlib.Repr()
    preview.maxlevel = 4
    preview.maxstring = preview.maxlong = preview.maxother = longest + 10
    preview.maxlist = preview.maxdict = preview.maxtuple = preview.maxset = longest // 3 + 1
    return preview


class _StandardError:
    """Standard error as it is at the moment of writing, because tests and daemons replace it."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Numbered:
    """Puts the number of this process into a line. Who is named there already is ``process_id`` then."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        if "process" in event:
            event["process_id"] = event.pop("process")
        event["process"] = self._number
        return event


class _Handler(logging.StreamHandler[_StandardError]):
    """Ours, to be found and replaced when the process configures its logs again."""


def _formatter(renderers: list[Processor]) -> logging.Formatter:
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level],
        processors=[ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _for_machines() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _for_people(*, colours: bool) -> list[Processor]:
    # structlog's own way to show a traceback prints local variables, and so secrets, where rich is installed
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _quote,
        structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain),
    ]


def _quote(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Quotes what a client could forge a second line or a terminal's commands with."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _WHOLE and not (value.isprintable() and " " not in value):
            event[key] = repr(value)
    return event
