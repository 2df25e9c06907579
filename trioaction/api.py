"""The ``api`` handle, for *application* code: what the process offers to a running action.

A context variable set once before the root nursery starts, so it reaches every task, HTTP handler and
thread of that process and two runtimes in one test process never mix. Framework code gets arguments and
never imports this module.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from trioaction.config import Settings
    from trioaction.operate.tasks import Tasks
    from trioaction.redis.client import RedisClient
    from trioaction.tasks import Actions


class Services:
    """What ``api`` stands for in one process; lifespans add their values as attributes."""

    def __init__(self, *, actions: Actions, tasks: Tasks, redis: RedisClient, config: Settings) -> None:
        self.actions = actions
        self.tasks = tasks
        self.redis = redis
        self.config = config
        self.lifespans: dict[str, Any] = {}


_current: ContextVar[Services] = ContextVar("trioaction_services")


class Api:
    """``actions``, ``tasks``, ``redis`` and ``config``; and ``api.<name>`` for each ``@lifespan``."""

    @property
    def actions(self) -> Actions:
        """Creates work: ``enqueue``, ``enqueue_in``, ``fan_out``, ``open_fan_out``, ``run_and_wait`` ..."""
        return self._services.actions

    @property
    def tasks(self) -> Tasks:
        """Looks at work and operates it: ``queues``, ``delayed``, ``failed``, ``workers`` ..."""
        return self._services.tasks

    @property
    def redis(self) -> RedisClient:
        """A redis-py style client on Trio, with a connection of its own beside the engine's."""
        return self._services.redis

    @property
    def config(self) -> Settings:
        """The settings in force."""
        return self._services.config

    @property
    def _services(self) -> Services:
        try:
            return _current.get()
        except LookupError:
            raise RuntimeError(
                "`api` works inside a running trioaction process only: in actions, lifespans and tests "
                "that use trioaction.testing.booted()"
            ) from None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._services.lifespans[name]
        except KeyError:
            known = ", ".join(sorted(self._services.lifespans)) or "none"
            raise AttributeError(f"api.{name}: no @lifespan of that name is open (open: {known})") from None


api = Api()


@contextmanager
def serving(services: Services) -> Generator[None]:
    """Make ``api`` mean these services in this context and in all tasks started from it."""
    token = _current.set(services)
    try:
        yield
    finally:
        _current.reset(token)
