"""Declared actions: what is found out about them, and that every mistake is told with its place."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import trio
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel, Secret, SecretStr
from typing_extensions import TypedDict

from trioaction.action import Action, Middleware, Task, Web, secret
from trioaction.cli.commands import app
from trioaction.errors import ActionDefinitionError, UnknownAction
from trioaction.lifespan import lifespan
from trioaction.registry import RESERVED_NAMES, Registry, discover, registry_of

PACKAGE = "apptree"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A folder for a package of actions; what it did to the interpreter is undone."""
    path = list(sys.path)
    (tmp_path / PACKAGE).mkdir()
    yield tmp_path
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] in {PACKAGE, "apptree_flat"}]:
        del sys.modules[name]


def write(tree: Path, name: str, text: str) -> None:
    file = tree / PACKAGE / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"from trioaction import Action, Task, Web, lifespan\n{text}")


def action(name: str, **attributes: Any) -> type[Action]:
    async def run(self: Action) -> None: ...

    return type("Sample", (Action,), {"__module__": __name__, "name": name, "run": run, **attributes})


def problem(*classes: type[Action], lifespans: tuple[Any, ...] = ()) -> str:
    with pytest.raises(ActionDefinitionError) as caught:
        registry_of(classes, lifespans)
    return caught.value.message


class Person(BaseModel):
    name: str


class Greet(Action):
    """Greet somebody.

    With words.
    """

    name = "people:greet"
    task = Task(queue="default", frequency=timedelta(minutes=1))
    web = Web("POST", "/people/{nick}/greet")
    timeout = timedelta(seconds=5)
    middleware = [Middleware()]  # noqa: RUF012

    class Inputs(BaseModel):
        nick: str = "you"
        token: str = secret("x", alias="apiToken")

    async def run(self, params: Inputs) -> None: ...


def test_all_of_an_action_is_found_out() -> None:
    spec = registry_of([Greet]).get("people:greet")
    assert spec.description == "Greet somebody.\n\nWith words."
    assert (spec.timeout, spec.takes, spec.is_async) == (5.0, 1, True)
    assert (spec.model, spec.task, spec.web) == (Greet.Inputs, Greet.task, Greet.web)
    assert spec.inputs == {"nick", "apiToken"}
    assert spec.secrets == {"token", "apiToken"}
    assert spec.middleware == tuple(Greet.middleware)
    assert spec.source.startswith("tests/unit/test_registry.py:")
    assert spec.source.endswith(" Greet")
    assert spec.source.partition(":")[2].split()[0] == str(source_line("class Greet"))


def source_line(text: str) -> int:
    return next(
        n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.startswith(text)
    )


def test_a_registry_is_read_by_name() -> None:
    registry = registry_of([action("b", web=Web("GET", "/b")), action("a")])
    assert [spec.name for spec in registry] == ["a", "b"]
    assert (len(registry), "a" in registry, "c" in registry) == (2, True, False)
    assert [spec.name for spec in registry.routes] == ["b"]
    with pytest.raises(UnknownAction, match="There is no action 'c'"):
        registry.get("c")


@pytest.mark.parametrize("takes", [0, 1, 2])
def test_run_takes_up_to_two_arguments(takes: int) -> None:
    runs: list[Callable[..., Any]] = [lambda self: 1, lambda self, p: p, lambda self, p, c=None: p]
    spec = registry_of([action("a", run=runs[takes])]).get("a")
    assert (spec.takes, spec.is_async) == (takes, False)


def test_a_decorated_run_is_seen_through() -> None:
    @wraps(Greet.run)
    async def logged(*args: Any) -> None:
        await Greet.run(*args)

    assert registry_of([action("a", run=logged)]).get("a").takes == 1


class Nested(BaseModel):
    password: SecretStr
    inner: Nested | None = None


@dataclass
class Pair:
    left: Annotated[str, secret()]


class Row(TypedDict):
    pin: SecretStr


class Point(NamedTuple):
    pin: SecretStr


class Vault(BaseModel):
    plain: str
    typed: SecretStr
    optional: SecretStr | None = None
    annotated: Annotated[SecretStr, Field(min_length=1)]
    marked: int = secret()
    generic: Secret[int]
    listed: list[Annotated[str, secret()]]
    nested: Nested
    pair: dict[str, Pair]
    row: Row
    point: Point
    choices: SecretStr = Field(validation_alias=AliasChoices("one", AliasPath("two", "three")))


def test_secrets_are_found_wherever_they_are() -> None:
    spec = registry_of([action("a", Inputs=Vault)]).get("a")
    assert spec.secrets == {*Vault.model_fields, "one", "two"} - {"plain"}
    assert spec.inputs == {*Vault.model_fields, "one", "two"} - {"choices"}


def generator(self: Any) -> Iterator[int]:
    yield 1


class Reserved(BaseModel):
    job: str = Field("", alias="_jobId")


class NeedsNick(BaseModel):
    nick: str


class Aliased(BaseModel):
    nick: str = Field("", alias="nickName")


def needs_more(self: Any, params: Any, connection: Any, more: Any) -> None: ...
def needs_keyword(self: Any, params: Any, *, more: Any) -> None: ...
def takes_anything(self: Any, *args: Any) -> None: ...


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"name": "9lives"}, "the name '9lives' is malformed"),
        ({"name": "a:"}, "malformed"),
        ({"name": "a:::b"}, "malformed"),
        ({"name": "::a"}, "malformed"),
        ({"name": "a b"}, "malformed"),
        ({"name": "a" * 101}, "malformed"),
        ({"name": "start"}, "the name 'start' is a command"),
        ({"name": ""}, "no name"),
        ({"name": ["a"]}, "no name"),
        ({"task": Task()}, "no queue"),
        ({"task": Task(queue="a,b")}, "queue = 'a,b'"),
        ({"task": Task(queue="*")}, "queue = '*'"),
        ({"task": Task(queue=" ")}, "queue = ' '"),
        ({"task": Task(queue="a\nb")}, "control characters"),
        ({"task": Task(queue="q" * 201)}, "at most 200"),
        ({"task": Task}, "task must be Task"),
        ({"task": Task(queue="q", frequency=0)}, "frequency = 0"),
        ({"task": Task(queue="q", frequency=timedelta(seconds=-1))}, "frequency"),
        ({"task": Task(queue="q", frequency=float("nan"))}, "frequency = nan"),
        ({"task": Task(queue="q", frequency="hourly")}, "frequency = 'hourly'"),  # pyright: ignore
        ({"task": Task(queue="q", frequency=1), "Inputs": NeedsNick}, "nick has no default"),
        ({"task": Task(queue="q", cron="0 3 * * *"), "Inputs": NeedsNick}, "nick has no default"),
        ({"Inputs": dict}, "Inputs must be a pydantic model"),
        ({"Inputs": RootModel[list[int]]}, "Inputs must be a pydantic model"),
        ({"Inputs": Reserved}, "the input _jobId"),
        ({"run": 5}, "run must be a plain method"),
        ({"run": staticmethod(lambda: 1)}, "run must be a plain method"),
        ({"run": generator}, "it has a yield"),
        ({"run": needs_more}, "it needs more too"),
        ({"run": needs_keyword}, "it needs more too"),
        ({"run": takes_anything}, "*args"),
        ({"__init__": lambda self, db: None}, "__init__ needs db"),
        ({"timeout": -1}, "timeout = -1"),
        ({"timeout": float("inf")}, "timeout = inf"),
        ({"timeout": "5"}, "timeout = '5'"),
        ({"middleware": Middleware()}, "middleware must be a list"),
        ({"middleware": [Middleware]}, "an instance: Middleware()"),
        ({"middleware": [1]}, "no Middleware"),
        ({"web": ("GET", "/")}, "web must be Web"),
        ({"web": Web("FETCH", "/a")}, "the method 'FETCH'"),  # pyright: ignore
        ({"web": Web("GET", "a")}, "the route 'a' is malformed"),
        ({"web": Web("GET", "/a/")}, "malformed"),
        ({"web": Web("GET", "/a//b")}, "malformed"),
        ({"web": Web("GET", "/a?b=1")}, "malformed"),
        ({"web": Web("GET", "/a-{nick}"), "Inputs": NeedsNick}, "whole segment"),
        ({"web": Web("GET", "/{}"), "Inputs": NeedsNick}, "whole segment"),
        ({"web": Web("GET", "/{nick}/{nick}"), "Inputs": NeedsNick}, "twice"),
        ({"web": Web("GET", "/{id}"), "Inputs": NeedsNick}, "{id}"),
        ({"web": Web("GET", "/{nick}"), "Inputs": Aliased}, "{nick}"),
        ({"web": Web("GET", "/{id}")}, "{id}"),
    ],
)
def test_a_mistake_is_told_with_its_class(attributes: dict[str, Any], named: str) -> None:
    told = problem(action(attributes.pop("name", "sample"), **attributes))
    assert named in told
    assert "Sample: " in told
    assert "\n" not in told


def test_an_action_needs_run() -> None:
    class Idle(Action):
        name = "idle"

    assert "it has no run()" in problem(Idle)


def test_a_model_that_cannot_be_built_is_told() -> None:
    Broken = type("Broken", (BaseModel,), {"__module__": __name__, "__annotations__": {"x": "NoSuchType"}})
    assert "Inputs cannot be built" in problem(action("a", Inputs=Broken))


def test_a_route_parameter_may_be_an_alias_or_any_name_of_an_open_model() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    registry_of(
        [
            action("a", web=Web("GET", "/a/{nickName}"), Inputs=Aliased),
            action("b", web=Web("GET", "/b/{anything}"), Inputs=Open),
            action("c", web=Web("GET", "/")),
        ]
    )


def test_all_problems_are_told_at_once() -> None:
    told = problem(action("a", timeout=-1), action("b b"))
    assert "timeout" in told
    assert "'b b'" in told


def test_two_actions_of_a_name_are_told_with_both_places() -> None:
    told = problem(action("people:greet"), Greet)
    assert "'people:greet' is taken twice" in told
    assert "Sample" in told
    assert "Greet" in told


def test_two_routes_clash_whatever_their_parameters_are_called() -> None:
    a = action("a", web=Web("GET", "/x/{nick}"), Inputs=NeedsNick)
    b = action("b", web=Web("GET", "/x/{name}"), Inputs=Person)
    assert "'GET /x/{}' is taken twice" in problem(a, b)
    registry_of(
        [a, action("c", web=Web("POST", "/x/{name}"), Inputs=Person), action("d", web=Web("GET", "/x/y"))]
    )


@lifespan
async def db() -> AsyncGenerator[int]:
    await trio.lowlevel.checkpoint()
    yield 1


@pytest.mark.parametrize("name", ["redis", "actions", "config", "tasks"])
def test_a_lifespan_hides_nothing(name: str) -> None:
    assert f"hide api.{name}" in problem(lifespans=(lifespan(name=name)(db.factory),))


def test_lifespans_have_names_of_their_own() -> None:
    assert "'db' is taken twice" in problem(lifespans=(db, lifespan(name="db")(db.factory)))
    assert "cannot be written" in problem(lifespans=(lifespan(name="my-db")(db.factory),))
    assert registry_of([], [db]).lifespans == (db,)


def test_a_lifespan_is_an_async_generator() -> None:
    def opened() -> None: ...

    assert "async def" in problem(lifespans=(lifespan(opened),))  # pyright: ignore


def test_no_action_can_hide_a_command() -> None:
    assert {name for name in app if not name.startswith("-")} <= RESERVED_NAMES


ONE = "class {0}(Action):\n    name = '{0}'\n    def run(self): ...\n"


def found(tree: Path) -> Registry:
    return discover(PACKAGE, tree)


def test_a_whole_package_tree_is_imported(tree: Path) -> None:
    write(tree, "__init__.py", "")
    write(tree, "a.py", ONE.format("A"))
    write(tree, "deep/__init__.py", ONE.format("Deep"))
    write(tree, "deep/b.py", ONE.format("B"))
    write(tree, "without_init/c.py", ONE.format("C"))
    write(tree, "__main__.py", "raise SystemExit(3)")
    assert {spec.name for spec in found(tree)} == {"A", "B", "C", "Deep"}
    assert found(tree).get("A").source == f"{PACKAGE}/a.py:2 A"
    assert sys.path[0] == str(tree)
    assert sys.path.count(str(tree)) == 1


def test_a_package_may_be_one_module(tree: Path) -> None:
    (tree / "apptree_flat.py").write_text("from trioaction import Action\n" + ONE.format("A"))
    assert [spec.name for spec in discover("apptree_flat", tree)] == ["A"]


def test_only_what_the_package_defines_is_collected(tree: Path) -> None:
    write(tree, "a.py", ONE.format("A"))
    write(tree, "b.py", f"from {PACKAGE}.a import A\nclass Base(Action):\n    pass\n{ONE.format('B')}")
    assert [spec.name for spec in found(tree)] == ["A", "B"]


def test_an_abstract_action_is_no_action() -> None:
    class Base(Action):
        @abstractmethod
        def run(self) -> None: ...

    assert not hasattr(Action, "run")
    assert "no name" in problem(Base)


def test_lifespans_open_in_the_order_of_files_and_lines(tree: Path) -> None:
    one = "@lifespan\nasync def {0}():\n    yield\n"
    write(tree, "a.py", f"from {PACKAGE}.z import last\n{one.format('first')}")
    write(tree, "z.py", one.format("before") + one.format("last"))
    assert [item.name for item in found(tree).lifespans] == ["first", "before", "last"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(9)", "SystemExit: 9"),
        ("def (", "SyntaxError"),
        (f"import {PACKAGE}.nothing", f"'{PACKAGE}.nothing'"),
    ],
)
@pytest.mark.parametrize("file", ["__init__.py", "deep/broken.py"])
def test_a_module_that_cannot_be_imported_is_told_with_its_line(
    tree: Path, file: str, text: str, named: str
) -> None:
    write(tree, "deep/__init__.py", "")
    write(tree, file, text)
    with pytest.raises(ActionDefinitionError) as caught:
        found(tree)
    assert named in caught.value.message
    assert f"{tree / PACKAGE / file}:2" in caught.value.message
    assert isinstance(caught.value.__cause__, Exception | SystemExit)


def test_a_missing_package_is_told_apart_from_a_missing_import(tree: Path) -> None:
    for name in ("no_such_package", f"{PACKAGE}.deep.actions"):
        with pytest.raises(
            ActionDefinitionError, match=f"There is no package '{name}'.*create .*__init__.py"
        ):
            discover(name, tree)
        assert len(discover(name, tree, required=False)) == 0


def test_a_broken_parent_of_the_package_is_told(tree: Path) -> None:
    write(tree, "__init__.py", "import no_such_library")
    with pytest.raises(ActionDefinitionError, match="no_such_library"):
        discover(f"{PACKAGE}.actions", tree)


def test_a_folder_without_init_wins_against_packages_of_its_name_elsewhere(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / PACKAGE).mkdir()
    (other / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(other)
    write(tree, "mine.py", "class Mine(Action):\n    name = 'mine'\n    async def run(self): ...\n")
    assert [spec.name for spec in discover(PACKAGE, tree)] == ["mine"]


def test_another_package_of_the_same_name_is_told(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(tree, "__init__.py", "")
    found(tree)
    other = tmp_path_factory.mktemp("other")
    (other / PACKAGE).mkdir()
    with pytest.raises(ActionDefinitionError, match=f"hidden by another one of that name at {tree}"):
        discover(PACKAGE, other)


def test_the_sample_is_right() -> None:
    registry = discover("actions", Path(__file__).parents[2])
    assert {"messages:cleanup", "users:processAll", "fanOut:status"} <= {spec.name for spec in registry}
    assert [item.name for item in registry.lifespans] == ["db"]


@pytest.mark.parametrize("name", ["a", "users:processOne", "Reports::Daily::Build", "a-b.c_d:1"])
def test_names_that_programs_of_a_fleet_have_are_fine(name: str) -> None:
    action = type("Any", (Action,), {"name": name, "run": lambda _self: None})
    assert name in registry_of([action])
