"""What ``trioaction start`` prints when everything runs: what is where."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from trioaction.config import Settings
from trioaction.foundation import Runtime


def banner(runtime: Runtime, url: str) -> list[str]:
    """The lines, for standard output."""
    rows = dict(_rows(runtime, url))
    width = max(map(len, rows))
    return [
        f"trioaction {version('trioaction')}",
        *(f"  {name:<{width}}  {text}" for name, text in rows.items()),
    ]


def _rows(runtime: Runtime, url: str) -> Iterator[tuple[str, str]]:
    settings, tasks = runtime.settings, runtime.settings.tasks
    yield "web", f"{url}{settings.web.prefix}, websocket at {settings.web.websocket_path}" if url else "off"
    yield "redis", f"{_redis(settings)}, namespace {settings.redis.namespace}"
    named = ", ".join(tasks.queues) if tasks.queues_from is None else f"from {tasks.queues_from}"
    yield "queues", f"{named} ({tasks.concurrency} slots)" if tasks.workers else "off"
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
