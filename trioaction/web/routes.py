"""Which action answers which method and path: the route table, built once at start.

Pure: it sees paths as text and never a request. It checks no route for its form, which the registry has done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from trioaction.errors import ActionDefinitionError, MalformedRequest, MethodNotAllowed, UnknownAction
from trioaction.registry import ActionSpec
from trioaction.web.codec import list_fields


@dataclass(frozen=True, slots=True)
class Route:
    """One action's endpoint: its parameters in the order of the path, its inputs that are lists."""

    action: str
    parameters: tuple[str, ...]
    lists: frozenset[str]


@dataclass(slots=True)
class _Node:
    """One place in the tree of paths that one method has."""

    words: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    parameter: _Node | None = None
    route: Route | None = None


class RouteTable:
    """All routes of an application, below ``prefix``.

    ``taken``: the server's own paths, and what for. ``own``: its own routes of GET below the prefix, and what
    for; `match` finds them as it finds actions, by the route in place of a name.
    """

    def __init__(
        self,
        actions: Iterable[ActionSpec],
        *,
        prefix: str,
        taken: Mapping[str, str] | None = None,
        own: Mapping[str, str] | None = None,
    ) -> None:
        self._roots: dict[str, _Node] = {}
        taken, own = taken or {}, own or {}
        for route in own:
            self._add(route, None, "GET", segments_of(prefix + route))
        for spec in actions:
            assert spec.web is not None
            path = prefix + spec.web.route
            purpose = taken.get(path) if spec.web.method == "GET" else None
            before = self._add(spec.name, spec.model, spec.web.method, segments_of(path))
            if purpose := purpose or own.get(before):
                raise ActionDefinitionError(f"{spec.source}: the path {path} is the server's own, {purpose}")

    def _add(self, name: str, model: type[BaseModel] | None, method: str, segments: list[str]) -> str:
        """Returns the name that was there before, "" if none was."""
        node = self._roots.setdefault(method, _Node())
        names: list[str] = []
        for segment in segments:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.words.setdefault(segment, _Node())
        before, node.route = node.route, Route(name, tuple(names), list_fields(model))
        return before.action if before else ""

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route for a path as it came (percent-encoded), with the values of its parameters.

        A literal segment wins over a parameter; HEAD is answered by what answers GET. Raises
        MethodNotAllowed if only other methods have the path, UnknownAction if none has.
        """
        segments = segments_of(path)
        if found := self._find(method, segments):
            return found
        if allowed := self._allowed(segments):
            raise MethodNotAllowed(f"{path} takes {', '.join(allowed)}, not {method}", allowed=allowed)
        raise UnknownAction(f"There is nothing at {path}")

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods that a path answers, sorted; raises UnknownAction if it answers none."""
        if allowed := self._allowed(segments_of(path)):
            return allowed
        raise UnknownAction(f"There is nothing at {path}")

    def _find(self, method: str, segments: list[str]) -> tuple[Route, dict[str, str]] | None:
        root = self._roots.get("GET" if method == "HEAD" else method)
        values: list[str] = []
        route = _descend(root, segments, 0, values) if root else None
        return route and (route, dict(zip(route.parameters, values, strict=True)))

    def _allowed(self, segments: list[str]) -> tuple[str, ...]:
        methods = {method for method in self._roots if self._find(method, segments)}
        if "GET" in methods:
            methods.add("HEAD")
        return tuple(sorted(methods | {"OPTIONS"})) if methods else ()


def segments_of(path: str) -> list[str]:
    """The decoded segments of a path; an encoded slash stays inside its segment.

    One slash at the end makes no difference. Raises MalformedRequest for bytes that are not UTF-8.
    """
    if not path.startswith("/"):
        path = _path_of_url(path)
    segments = path.removesuffix("/").split("/")[1:]
    if "%" not in path:
        return segments
    try:
        return [unquote(segment, errors="strict") for segment in segments]
    except UnicodeDecodeError:
        raise MalformedRequest("The path is not valid UTF-8") from None


def _path_of_url(target: str) -> str:
    """A proxy's request line may have the whole URL."""
    try:
        return urlsplit(target).path or "/"
    except ValueError:
        raise MalformedRequest("The request's target is neither a path nor a URL") from None


def _descend(node: _Node, segments: list[str], depth: int, values: list[str]) -> Route | None:
    if depth == len(segments):
        return node.route
    segment = segments[depth]
    if (word := node.words.get(segment)) and (route := _descend(word, segments, depth + 1, values)):
        return route
    if node.parameter is None or not segment:
        return None
    values.append(segment)
    if route := _descend(node.parameter, segments, depth + 1, values):
        return route
    values.pop()
    return None
