"""What was asked for, item by item: which action, on which queue, with which inputs. Pure.

Both forms are here: one action with many inputs, and items that name an action each.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, cast

from pydantic import BaseModel

from trioaction.errors import FieldError, InvalidInput, PayloadTooLarge
from trioaction.registry import Registry
from trioaction.resque.queue import check_queue

DEFAULT_QUEUE = "default"
_ITEM_KEYS = frozenset({"action", "inputs", "queue"})

Items = Iterable[Any] | AsyncIterable[Any]
Order = tuple[str, str, Any, int | None]
"""One job to be: its action, its queue, its inputs, which are not looked at yet, and its lifetime in ms."""


def order(registry: Registry, action: str, inputs: Any, queue: str | None) -> Order:
    """One job; its queue is ``queue``, else the one of the action's Task, else ``default``.

    Raises UnknownAction, and InvalidInput for a name that no queue can have.
    """
    if not isinstance(cast("object", action), str):
        raise _wants_a_name(action)
    task = registry.get(action).task
    chosen = queue if queue is not None else (task.queue if task else "") or DEFAULT_QUEUE
    check_queue(chosen)
    return action, chosen, {} if inputs is None else inputs, task.lifetime if task else None


class Orders:
    """Items as orders; ``action`` is the one of all items, or None if each item names its own."""

    def __init__(self, registry: Registry, action: str | None, queue: str | None) -> None:
        self._registry = registry
        self._queue = queue
        self._actions: dict[str, None] = {}
        self._queues: dict[str, None] = {}
        self._routes: dict[tuple[str, str | None], tuple[str, str, int | None]] = {}
        self._single = None if action is None else self._route(action, None)

    def __call__(self, index: int, item: Any) -> Order:
        """The order of one item. Raises UnknownAction, and InvalidInput for an item of another form."""
        if self._single is not None:
            (action, queue, lifetime), inputs = self._single, item
        else:
            _check_item(index, item)
            action, queue, lifetime = self._route(item["action"], item.get("queue"))
            inputs = item.get("inputs")
        return action, queue, {} if inputs is None else inputs, lifetime

    @property
    def single(self) -> bool:
        """Whether there is one action, which has been checked already."""
        return self._single is not None

    @property
    def actions(self) -> str | list[str]:
        """The actions so far, in the order in which they came up; a text if there is one."""
        return shown(self._actions)

    @property
    def queues(self) -> str | list[str]:
        """The queues so far, as `actions`."""
        return shown(self._queues)

    def _route(self, action: str, queue: str | None) -> tuple[str, str, int | None]:
        """Action, queue and lifetime; there are few of them, and many items of each."""
        route = self._routes.get((action, queue))
        if route is None:
            asked = self._queue if queue is None else queue
            name, chosen, _, lifetime = order(self._registry, action, None, asked)
            route = self._routes[action, queue] = (name, chosen, lifetime)
            self._actions[name] = self._queues[chosen] = None
        return route


def ordered(
    ordering: Callable[[str | None], Orders], action: str | Items, inputs: Items | None
) -> tuple[Items, Orders]:
    """What to do, in the one form (an action and inputs) or the other (items); ``ordering`` makes `Orders`.

    Raises InvalidInput for anything else.
    """
    if isinstance(action, str):
        return _many(inputs), ordering(action)
    asked = cast("object", action)
    if isinstance(asked, (bytes, type)) or not isinstance(asked, (Iterable, AsyncIterable)):
        raise _wants_a_name(action)
    if inputs is not None:
        problem = "items that name their actions have their inputs in them; pass no others"
        raise InvalidInput([FieldError("inputs", problem)])
    return _many(action), ordering(None)


def mapping_of(inputs: object) -> Mapping[str, Any]:
    """Inputs of one job. Raises InvalidInput if they are none."""
    if isinstance(inputs, Mapping):
        return cast("Mapping[str, Any]", inputs)
    hint = '; pass what its .model_dump(mode="json") returns' if isinstance(inputs, BaseModel) else ""
    raise InvalidInput([FieldError("inputs", f"not a mapping, but {type(inputs).__name__}{hint}")])


def _wants_a_name(action: object) -> InvalidInput:
    return InvalidInput([FieldError("action", f"the name of an action is wanted, as text, not {action!r}")])


def _many(items: Any) -> Items:
    one = isinstance(items, (Mapping, BaseModel, str, bytes))
    if one or not isinstance(items, (Iterable, AsyncIterable)):
        kind = type(cast("object", items)).__name__
        problem = f"a list (or another iterable) of inputs is wanted, not {kind}"
        raise InvalidInput([FieldError("inputs", problem)])
    return cast("Items", items)


def closing(items: Items) -> AbstractAsyncContextManager[Any]:
    """Async generators that nobody finishes are closed here, not by the garbage collector."""
    return aclosing(cast("Any", items)) if hasattr(items, "aclose") else nullcontext()


def of_item(number: int, error: InvalidInput | PayloadTooLarge) -> InvalidInput | PayloadTooLarge:
    """The same error with the item named, where there are many."""
    if isinstance(error, PayloadTooLarge):
        return PayloadTooLarge(f"Item {number}: {error.message}")
    return InvalidInput([FieldError(f"{number}.{one.field}", one.message) for one in error.errors])


def _check_item(index: int, item: Any) -> None:
    problem = _problem(item)
    if problem is not None:
        raise InvalidInput([FieldError(str(index), problem)])


def _problem(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return (
            f'an item is a mapping {{"action": ..., "inputs": ..., "queue": ...}}, not {type(item).__name__}'
        )
    fields = cast("Mapping[Any, Any]", item)
    unknown = [key for key in fields if key not in _ITEM_KEYS]
    if unknown:
        return f"unknown key {unknown[0]!r}; an item has action, and if need be inputs and queue"
    if not isinstance(fields.get("action"), str):
        return "the item names no action, as text"
    queue = fields.get("queue")
    if queue is not None and not isinstance(queue, str):
        return f"the queue is a text, not {type(queue).__name__}"
    return None


def shown(names: Iterable[str]) -> str | list[str]:
    """Names as callers see them: a text if there is one."""
    listed = list(names)
    return listed[0] if len(listed) == 1 else listed


def as_json(names: str | list[str]) -> str:
    """Names as a record keeps them."""
    return json.dumps(names)
