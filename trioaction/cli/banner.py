"""What ``trioaction start`` prints when everything runs: what is where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from trioaction.config import Settings

if TYPE_CHECKING:
    from trioaction.foundation import Runtime


def banner(runtime: Runtime, url: str) -> list[str]:
    """The lines, for standard output."""
    return lines_of(rows_of(runtime, url))


def rows_of(runtime: Runtime, url: str, *, processes: int = 1) -> dict[str, str]:
    """What is where, by name; of a process that is one of several, all but these."""
    return dict(_rows(runtime, url, " each" if processes > 1 else ""))


def lines_of(rows: Mapping[str, str]) -> list[str]:
    """The lines of these rows."""
    width = max(map(len, rows))
    return [
        f"trioaction {version('trioaction')}",
        *(f"  {name:<{width}}  {text}" for name, text in rows.items()),
    ]


def _rows(runtime: Runtime, url: str, each: str) -> Iterator[tuple[str, str]]:
    settings, tasks = runtime.settings, runtime.settings.tasks
    yield "web", f"{url}{settings.web.prefix}, websocket at {settings.web.websocket_path}" if url else "off"
    yield "redis", f"{_redis(settings)}, namespace {settings.redis.namespace}"
    named = ", ".join(tasks.queues) if tasks.queues_from is None else f"from {tasks.queues_from}"
    yield "queues", f"{named} ({tasks.concurrency} slots{each})" if tasks.workers else "off"
    yield "scheduler", "on" if tasks.scheduler else "off"
    if settings.admin.enabled and url:
        yield "tasks", f"operated at {url}{settings.web.prefix}/tasks"
    yield (
        "actions",
        f"{len(runtime.registry) - _built_in(settings)} from {settings.actions.package} in {settings.root}",
    )
    yield "process", runtime.membership.id or ""


def _built_in(settings: Settings) -> int:
    if not settings.admin.enabled:
        return 0
    from trioaction.builtin.register import operations  # noqa: PLC0415  (only who has a password needs them)

    return len(operations())


def _redis(settings: Settings) -> str:
    if settings.redis.url is None:
        return f"embedded, data in {settings.data_dir}"
    address = settings.redis.url.get_secret_value()
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
