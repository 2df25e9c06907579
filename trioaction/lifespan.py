"""``@lifespan``: things an application opens at start-up and closes at the end (a database, a client)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, overload

Factory = Callable[[], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class Lifespan:
    """One declared lifespan: what it yields is ``api.<name>`` while the process lives."""

    name: str
    factory: Factory
    source: str

    def open(self) -> AbstractAsyncContextManager[Any]:
        """A fresh context manager; entered once per process, in the root nursery."""
        return asynccontextmanager(self.factory)()


@overload
def lifespan(factory: Factory, /) -> Lifespan: ...
@overload
def lifespan(*, name: str) -> Callable[[Factory], Lifespan]: ...
def lifespan(
    factory: Factory | None = None, /, *, name: str | None = None
) -> Lifespan | Callable[[Factory], Lifespan]:
    """Declare an async generator function as an application lifespan.

    Its code before ``yield`` runs at start-up, in the order of discovery (files by name, then order in
    the file); the yielded value becomes ``api.<function name>``; its code after ``yield`` runs at
    shutdown, in reverse, when no action runs any more. It is used in every kind of process: server,
    worker and CLI command.
    """

    def declare(function: Factory) -> Lifespan:
        code = function.__code__  # pyright: ignore[reportFunctionMemberAccess]
        return Lifespan(
            name or function.__name__,  # pyright: ignore[reportFunctionMemberAccess]
            function,
            f"{code.co_filename}:{code.co_firstlineno}",
        )

    return declare if factory is None else declare(factory)
