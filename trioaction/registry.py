"""The actions of a process: found, checked and described once at start-up, looked up by name ever after.

Nothing here runs an action, and nothing is registered later.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

from trioaction.action import Action, Middleware, Task, Web, seconds_of
from trioaction.declaration import (
    is_abstract,
    lifespan_problems,
    parameters_of,
    problems_of,
    shape_of,
    source_of,
)
from trioaction.discovery import actions_in, import_tree, lifespans_in
from trioaction.errors import ActionDefinitionError, UnknownAction
from trioaction.inputs import accepted_names, secret_names
from trioaction.lifespan import Lifespan

RESERVED_NAMES = frozenset(
    {
        *("start", "actions", "config", "enqueue", "tasks", "failed", "queues", "fan-out"),
        *("delayed", "retries", "workers", "locks", "recurring", "bench", "new"),
    }
)
"""Commands of the CLI, present and planned: no action may be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """All that was found out about one action class.

    ``inputs`` are the names that callers write; ``secrets`` the names and aliases of those that are secret or
    have something secret inside. ``timeout`` is in seconds, 0 for none, None for the configured default.
    ``takes`` says how many of (params, connection) ``run`` takes.
    """

    name: str
    action: type[Action]
    description: str
    model: type[BaseModel] | None
    inputs: frozenset[str]
    secrets: frozenset[str]
    task: Task | None
    web: Web | None
    timeout: float | None
    middleware: tuple[Middleware, ...]
    takes: int
    is_async: bool
    source: str
    validator: SchemaValidator | None = field(repr=False, compare=False)


class Registry:
    """Actions by name, and the application's lifespans in the order in which they open."""

    def __init__(self, specs: Iterable[ActionSpec], lifespans: Iterable[Lifespan] = ()) -> None:
        self._specs: Mapping[str, ActionSpec] = {s.name: s for s in sorted(specs, key=lambda s: s.name)}
        self.lifespans = tuple(lifespans)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[ActionSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def get(self, name: str) -> ActionSpec:
        """The action of that name; raises UnknownAction."""
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownAction(f"There is no action {name[:100]!r}") from None

    @property
    def routes(self) -> tuple[ActionSpec, ...]:
        """Those that have a route, by name."""
        return tuple(spec for spec in self if spec.web is not None)


def discover(package: str, root: Path, *, required: bool = True) -> Registry:
    """Import the whole package below ``root`` and register what it declares.

    Raises ActionDefinitionError that names file and class of everything that is wrong. Without ``required``,
    a package that does not exist is one without actions.
    """
    modules = import_tree(package, root)
    if required and not modules:
        raise ActionDefinitionError(
            f"There is no package {package!r} in {root}: create {package.replace('.', '/')}/__init__.py with "
            "your actions, or set `package` under [actions] in trioaction.toml"
        )
    actions = [cls for cls in actions_in(modules, package) if not is_abstract(cls)]
    return _register(actions, lifespans_in(modules, package), root)


def registry_of(classes: Iterable[type[Action]], lifespans: Iterable[Lifespan] = ()) -> Registry:
    """Register these classes, with the same checks: for tests and for programs that bring their own."""
    return _register(list(classes), list(lifespans), Path.cwd())


def extended(
    registry: Registry, classes: Iterable[type[Action]], middleware: Sequence[Middleware], root: Path
) -> Registry:
    """The same and these classes, with ``middleware`` around each of theirs; with the same checks."""
    added = list(classes)
    whole = _register([*(spec.action for spec in registry), *added], list(registry.lifespans), root)
    around = tuple(middleware)
    specs = (replace(s, middleware=(*around, *s.middleware)) if s.action in added else s for s in whole)
    return Registry(specs, registry.lifespans)


def _register(classes: list[type[Action]], lifespans: list[Lifespan], root: Path) -> Registry:
    sources = {cls: source_of(cls, root) for cls in classes}
    problems = {cls: list(problems_of(cls, RESERVED_NAMES)) for cls in classes}
    told = [f"{sources[cls]}: {problem}" for cls in classes for problem in problems[cls]]
    told += [f"{item.source} {item.name}: {text}" for item in lifespans for text in lifespan_problems(item)]
    named = ((str(cls.name), sources[cls]) for cls in classes if cls.name)
    told += _shared("the action name {!r} is taken twice", named)
    routed = ((shape_of(c.web), sources[c]) for c in classes if c.web and not problems[c])
    told += _shared("the route {!r} is taken twice", routed)
    told += _shared("the lifespan name {!r} is taken twice", ((s.name, s.source) for s in lifespans))
    if told:
        raise ActionDefinitionError(told[0] if len(told) == 1 else "\n  ".join(["Several problems:", *told]))
    return Registry((_spec(cls, sources[cls]) for cls in classes), lifespans)


def _shared(message: str, named: Iterable[tuple[str, str]]) -> list[str]:
    """A problem for each name that several sources have."""
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for name, source in named:
        sources[name].append(source)
    return [
        f"{message.format(name)}, by {' and by '.join(places)}"
        for name, places in sources.items()
        if len(places) > 1
    ]


def _spec(cls: type[Action], source: str) -> ActionSpec:
    model = cls.Inputs
    validator: Any = model.__pydantic_validator__ if model else None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return ActionSpec(
        name=cls.name,
        action=cls,
        description=inspect.cleandoc(cls.description or cls.__doc__ or ""),
        model=model,
        inputs=accepted_names(model) if model else frozenset(),
        secrets=secret_names(model) if model else frozenset(),
        task=cls.task,
        web=cls.web,
        timeout=seconds_of(cls.timeout),
        middleware=tuple(cls.middleware),
        takes=min(2, sum(p.kind in positional for p in parameters_of(cls.run))),
        is_async=inspect.iscoroutinefunction(cls.run),
        source=source,
        validator=validator,
    )
