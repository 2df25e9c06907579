"""What is wrong with one declared action or lifespan, each problem as one sentence. Pure.

What two declarations have against each other is ``registry``'s.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, RootModel
from pydantic.errors import PydanticUserError

from trioaction.action import Action, HttpMethod, Middleware, Web, seconds_of
from trioaction.inputs import RESERVED, accepted_names, takes_any_name
from trioaction.lifespan import Lifespan
from trioaction.task_declaration import is_number, listed, task_problems
from trioaction.timetable_declaration import timetable_problems

LONGEST_NAME = 100
METHODS: tuple[str, ...] = get_args(HttpMethod)
API_NAMES = frozenset({"actions", "config", "redis", "tasks"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(::?[A-Za-z0-9_.-]+)*")  # Ruby's classes have "::"
_ROUTE = re.compile(r"/|(/[^/\s?#]+)+")
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_Kind = inspect.Parameter


def is_abstract(cls: type[Action]) -> bool:
    """Whether a class is only there to be inherited from."""
    return inspect.isabstract(cls) or not (cls.name or hasattr(cls, "run"))


def source_of(cls: type[Action], root: Path) -> str:
    """Where a class is, as an editor opens it, and its name."""
    try:
        file, line = Path(inspect.getfile(cls)), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return f"{cls.__module__} {cls.__qualname__}"
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    return f"{shown}:{line} {cls.__qualname__}"


def problems_of(cls: type[Action], reserved: frozenset[str]) -> Iterator[str]:
    """Everything that is wrong with an action class by itself."""
    yield from _name_problems(cls.name, reserved)
    yield from _class_problems(cls)
    yield from _run_problems(inspect.getattr_static(cls, "run", None))
    yield from _timeout_problems(cls.timeout)
    yield from _middleware_problems(cls.middleware)
    broken = list(_model_problems(cls.Inputs, cls.__module__))
    yield from broken
    model = None if broken else cls.Inputs
    yield from _input_problems(model)
    yield from task_problems(cls.task, model, checked=not broken)
    yield from timetable_problems(cls.task, model, checked=not broken)
    yield from _web_problems(cls.web, model, checked=not broken)


def lifespan_problems(lifespan: Lifespan) -> Iterator[str]:
    """Everything that is wrong with a lifespan by itself."""
    if not inspect.isasyncgenfunction(lifespan.factory):
        yield "@lifespan needs an `async def` with one `yield` in it"
    if not lifespan.name.isidentifier() or lifespan.name.startswith("_"):
        yield f"api.{lifespan.name} cannot be written; give the lifespan another name"
    elif lifespan.name in API_NAMES:
        yield f"the lifespan {lifespan.name} would hide api.{lifespan.name}; give it another name"


def parameters_of(run: Any) -> list[inspect.Parameter]:
    """What ``run`` takes after ``self``."""
    return list(inspect.signature(run).parameters.values())[1:]


def shape_of(web: Web) -> str:
    """The same text for two routes that match the same paths."""
    return f"{web.method} {_PARAMETER.sub('{}', web.route)}"


def _name_problems(name: Any, reserved: frozenset[str]) -> Iterator[str]:
    if not isinstance(name, str) or not name:
        yield 'it has no name; set name = "..."'
    elif len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        yield (
            f"the name {name!r} is malformed; a name begins with a letter, has letters, digits and _ . - : "
            f"and at most {LONGEST_NAME} characters"
        )
    elif name in reserved:
        yield f"the name {name!r} is a command of trioaction's; choose another one"


def _class_problems(cls: type[Action]) -> Iterator[str]:
    needed = [p.name for p in parameters_of(cls.__init__) if _is_needed(p)]
    if needed:
        yield f"each call makes an instance with no arguments, but __init__ needs {listed(needed)}"


def _run_problems(run: Any) -> Iterator[str]:
    if run is None:
        yield "it has no run(); define run(self), run(self, params) or run(self, params, connection)"
    elif not inspect.isfunction(run) or not inspect.signature(run).parameters:
        yield "run must be a plain method, with self"
    elif inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        yield "run() must return its result; it has a yield"
    else:
        yield from _signature_problems(parameters_of(run))


def _signature_problems(parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
    if any(p.kind is _Kind.VAR_POSITIONAL for p in parameters):
        yield "run() must name its parameters, not take *args; a decorator should use functools.wraps"
    needed = [
        p.name for n, p in enumerate(parameters) if (n > 1 or p.kind is _Kind.KEYWORD_ONLY) and _is_needed(p)
    ]
    if needed:
        yield f"run() is called with params and connection at most; it needs {listed(needed)} too"


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)
    return parameter.default is _Kind.empty and not variable


def _timeout_problems(timeout: Any) -> Iterator[str]:
    seconds = seconds_of(timeout)
    if seconds is not None and not (is_number(seconds) and seconds >= 0):
        yield f"timeout = {timeout!r}: it must be seconds (0 for none) or a timedelta, and not negative"


def _middleware_problems(middleware: Any) -> Iterator[str]:
    if not isinstance(middleware, list | tuple):
        yield "middleware must be a list"
        return
    for item in cast("Sequence[Any]", middleware):
        if isinstance(item, type):
            yield f"middleware has the class {item.__name__}; it must have an instance: {item.__name__}()"
        elif not isinstance(item, Middleware):
            yield f"middleware has {item!r}, which is no Middleware"


def _model_problems(model: Any, module: str) -> Iterator[str]:
    if model is None:
        return
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or issubclass(model, RootModel):
        yield "Inputs must be a pydantic model with named fields: class Inputs(BaseModel)"
        return
    try:
        model.model_rebuild(_types_namespace=vars(sys.modules[module]))
    except (PydanticUserError, NameError) as error:
        yield f"Inputs cannot be built: {str(error).splitlines()[0]}"


def _input_problems(model: type[BaseModel] | None) -> Iterator[str]:
    names = (accepted_names(model) | model.model_fields.keys()) if model else ()
    for name in sorted(name for name in names if RESERVED.fullmatch(name)):
        yield f"the input {name} has a name that is reserved by trioaction"


def _web_problems(web: Any, model: type[BaseModel] | None, *, checked: bool) -> Iterator[str]:
    if web is None:
        return
    if not isinstance(web, Web):
        yield f'web must be Web("GET", "/path"), not {web!r}'
        return
    if web.method not in METHODS:
        yield f"its route has the method {web.method!r}; there are {listed(METHODS)}"
    malformed = list(_route_problems(web.route))
    yield from malformed
    if checked and not malformed:
        yield from _parameter_problems(web.route, model)


def _route_problems(route: Any) -> Iterator[str]:
    if not isinstance(route, str) or not _ROUTE.fullmatch(route):
        yield (
            f"the route {route!r} is malformed; it begins with /, does not end with one, and has no spaces, "
            "queries or empty segments"
        )
        return
    for segment in route.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        if {"{", "}"} & set(segment) and not (parameter and parameter[1].isidentifier()):
            yield f"the route {route!r} is malformed: a parameter is a whole segment, like /users/{{id}}"
            return


def _parameter_problems(route: str, model: type[BaseModel] | None) -> Iterator[str]:
    parameters = _PARAMETER.findall(route)
    if len(set(parameters)) < len(parameters):
        yield f"the route {route!r} has a parameter twice"
    if model and takes_any_name(model):
        return
    known = accepted_names(model) if model else frozenset[str]()
    for name in dict.fromkeys(parameters):
        if name not in known:
            yield f"the route {route!r} has {{{name}}}, but Inputs has no field of that name"
