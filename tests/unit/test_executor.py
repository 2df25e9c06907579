"""The one path of every call: validation, deadlines, threads, middleware, errors, and what is logged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator
from structlog.testing import capture_logs
from structlog.typing import EventDict

from trioaction.action import Action, Middleware, Task, secret
from trioaction.connection import Connection, ConnectionKind, JobContext
from trioaction.errors import (
    ActionCrashed,
    ActionError,
    ActionTimeout,
    ChildFailed,
    FieldError,
    InvalidInput,
    MalformedRequest,
    RedisUnavailable,
    UnknownAction,
)
from trioaction.executor import Executor
from trioaction.outcome import Outcome
from trioaction.registry import registry_of

HIDDEN = "hunter2"


def caller(kind: ConnectionKind = "web") -> Connection:
    return Connection(kind=kind, id=f"{kind}:1")


def executor(*classes: type[Action], timeout: float = 60, threads: int = 5, jobs: int = 5) -> Executor:
    return Executor(registry_of(classes), timeout=timeout, threads=threads, job_threads=jobs)


def sample(run: Callable[..., Any], **attributes: Any) -> type[Action]:
    """An action with this ``run``."""
    return type("Sample", (Action,), {"name": "sample", "run": run, **attributes})


async def call(
    run: Callable[..., Any],
    raw: Mapping[str, Any] | None = None,
    kind: ConnectionKind = "web",
    **attributes: Any,
) -> Outcome:
    """Run one action that is made of this function."""
    return await executor(sample(run, **attributes)).execute("sample", raw or {}, caller(kind))


def raiser(error: BaseException) -> Callable[..., Any]:
    async def run(self: Action) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return run


@pytest.fixture
def lines() -> Iterator[list[EventDict]]:
    """What is logged meanwhile, at every level."""
    logger = logging.getLogger("trioaction.action")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    with capture_logs() as logged:
        yield logged
    logger.setLevel(level)


class Age(BaseModel):
    age: int = Field(default=5, ge=1)
    name: str = "nobody"


# results and params


@pytest.mark.parametrize("kind", ["web", "websocket", "cli", "task"])
async def test_every_kind_of_caller_gets_the_result(kind: ConnectionKind) -> None:
    async def run(self: Action, params: Age, connection: Connection) -> tuple[int, str]:
        await trio.lowlevel.checkpoint()
        return params.age, connection.kind

    outcome = await call(run, {"age": "7"}, kind, Inputs=Age)
    assert outcome.result == (7, kind)
    assert outcome.ok
    assert outcome.seconds > 0
    assert outcome.exception is None
    assert outcome.lingering is None


async def test_without_inputs_params_are_an_empty_dict_of_the_call() -> None:
    async def run(self: Action, params: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        params["x"] = len(params)
        return params

    service = executor(sample(run))
    for _ in range(2):
        assert (await service.execute("sample", {"a": 1}, caller())).result == {"x": 0}


async def test_each_call_has_an_instance_of_its_own() -> None:
    def run(self: Action) -> Action:
        return self

    service = executor(sample(run))
    first = await service.execute("sample", {}, caller())
    second = await service.execute("sample", {}, caller())
    assert first.result is not second.result


async def test_any_mapping_will_do_as_inputs() -> None:
    class Header(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"age": 9}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(["age"])

        def __len__(self) -> int:
            return 1

    outcome = await call(lambda self, params: params.age, Header(), Inputs=Age)
    assert outcome.result == 9


# what does not get as far as run()


def never(self: Action, *_: Any) -> None:
    raise AssertionError("it ran")


def not_reached(self: Action) -> None:
    never(self)


async def test_an_unknown_action_is_an_outcome() -> None:
    outcome = await executor().execute("x" * 1000, {}, caller())
    assert isinstance(outcome.error, UnknownAction)
    assert len(outcome.error.message) < 200


@pytest.mark.parametrize("raw", [None, 5, "text", [("age", 1)]])
async def test_inputs_that_are_no_mapping_are_malformed(raw: Any) -> None:
    outcome = await executor(sample(not_reached)).execute("sample", raw, caller())
    assert isinstance(outcome.error, MalformedRequest)


@pytest.mark.parametrize("kind", ["web", "websocket", "cli"])
@pytest.mark.parametrize("name", ["_fanOutId", "_fanOutAnything", "_attempt", "_jobId"])
async def test_reserved_names_are_refused_at_every_edge(kind: ConnectionKind, name: str) -> None:
    outcome = await call(not_reached, {name: 1}, kind)
    assert isinstance(outcome.error, InvalidInput)
    assert outcome.error.key == name


async def test_a_worker_is_not_checked_for_reserved_names() -> None:
    assert (await call(lambda self: 1, {"_attempt": 1}, "task")).ok


async def test_every_problem_is_told_with_its_value() -> None:
    class Home(BaseModel):
        street: str

    class Inputs(BaseModel):
        age: int = Field(ge=1000)
        home: Home
        tags: list[int]
        needed: str

    raw = {"age": 5, "home": {"street": 7}, "tags": [1, "two"]}
    outcome = await call(not_reached, raw, Inputs=Inputs)
    assert isinstance(outcome.error, InvalidInput)
    told = {error.field: (error.message, error.value) for error in outcome.error.errors}
    assert set(told) == {"age", "home.street", "tags.1", "needed"}
    assert told["age"] == ("Input should be greater than or equal to 1000", 5)
    assert told["home.street"][1] == 7
    assert told["tags.1"][1] == "two"
    assert told["needed"] == ("Field required", None)
    assert outcome.exception is outcome.error


@pytest.mark.parametrize("value", ["x" * 300, list(range(100)), float("nan"), object()])
async def test_a_value_that_is_large_or_not_json_is_left_out(value: Any) -> None:
    outcome = await call(not_reached, {"age": value}, Inputs=Age)
    assert isinstance(outcome.error, InvalidInput)
    assert [(error.field, error.value) for error in outcome.error.errors] == [("age", None)]


async def test_a_flood_of_problems_is_cut() -> None:
    class Inputs(BaseModel):
        numbers: list[int]

    outcome = await call(not_reached, {"numbers": ["x"] * 5000}, Inputs=Inputs)
    assert isinstance(outcome.error, InvalidInput)
    assert len(outcome.error.errors) == 101
    assert outcome.error.errors[-1] == FieldError("inputs", "4900 more problems")


class Credentials(BaseModel):
    user: str
    password: SecretStr

    @model_validator(mode="after")
    def never_right(self) -> Credentials:
        raise ValueError("wrong credentials")


class Secrets(BaseModel):
    typed: SecretStr = Field(default=SecretStr("x"), max_length=3)
    marked: int = secret(0)
    aliased: int = secret(0, alias="apiToken")
    told: str = secret("")
    credentials: Credentials | None = None

    @field_validator("told")
    @classmethod
    def blurt(cls, value: str) -> str:
        if value:
            raise ValueError(f"{value} is wrong")
        return value


class Whole(BaseModel):
    pin: str = secret()

    @model_validator(mode="before")
    @classmethod
    def blurt(cls, values: Any) -> Any:
        raise ValueError(f"no such pin: {values['pin']}")


@pytest.mark.parametrize(
    ("model", "raw", "field"),
    [
        (Secrets, {"typed": HIDDEN}, "typed"),
        (Secrets, {"marked": HIDDEN}, "marked"),
        (Secrets, {"apiToken": HIDDEN}, "apiToken"),
        (Secrets, {"told": HIDDEN}, "told"),
        (Secrets, {"credentials": {"password": HIDDEN}}, "credentials.user"),
        (Secrets, {"credentials": {"user": "me", "password": HIDDEN}}, "credentials"),
        (Secrets, {"credentials": [HIDDEN]}, "credentials"),
        (Whole, {"pin": HIDDEN}, "inputs"),
    ],
)
async def test_nothing_of_a_secret_is_told_or_logged(
    model: type[BaseModel], raw: dict[str, Any], field: str, lines: list[EventDict]
) -> None:
    outcome = await call(not_reached, raw, Inputs=model)
    assert isinstance(outcome.error, InvalidInput)
    assert [error.field for error in outcome.error.errors] == [field]
    assert HIDDEN not in str(outcome.error.to_json()) + str(outcome.error)
    assert outcome.error.__context__ is None
    assert len(lines) == 1
    assert HIDDEN not in str(lines)


# errors of the action


class OutOfStock(ActionError):
    pass


@pytest.mark.parametrize("error", [OutOfStock("none left"), RedisUnavailable("away")])
async def test_an_error_of_ours_is_passed_on(error: Any) -> None:
    for raised in (error, ExceptionGroup("nursery", [ExceptionGroup("inner", [error])])):
        outcome = await call(raiser(raised))
        assert outcome.error is error
        assert outcome.exception is error
        assert not outcome.ok


CRASHES = [
    ValueError("an internal detail"),
    SystemExit(3),
    ExceptionGroup("two", [OutOfStock("a"), OutOfStock("b")]),
    ExceptionGroup("one", [KeyError("an internal detail")]),
    BaseExceptionGroup("exit", [SystemExit(3), ValueError()]),
]


@pytest.mark.parametrize("error", CRASHES)
async def test_anything_else_is_a_crash_that_shows_no_internals(error: BaseException) -> None:
    outcome = await call(raiser(error))
    assert isinstance(outcome.error, ActionCrashed)
    assert "internal detail" not in str(outcome.error.to_json())
    assert outcome.exception is error


async def test_a_crash_of_a_thread_or_a_validator_is_one_too() -> None:
    class Inputs(BaseModel):
        a: int = 0

        @model_validator(mode="before")
        @classmethod
        def broken(cls, values: Any) -> Any:
            raise KeyError("bug")

    def exits(self: Action) -> None:
        raise SystemExit

    assert isinstance((await call(not_reached, {"a": 1}, Inputs=Inputs)).exception, KeyError)
    assert isinstance((await call(exits)).error, ActionCrashed)


async def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        await call(raiser(KeyboardInterrupt()))
    with pytest.RaisesGroup(KeyboardInterrupt):
        await call(raiser(BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError()])))


# deadlines and cancellation


async def sleepy(self: Action) -> None:
    await trio.sleep(100)


async def test_the_deadline_is_an_outcome(autojump_clock: trio.abc.Clock) -> None:
    outcome = await call(sleepy, timeout=5)
    assert isinstance(outcome.error, ActionTimeout)
    assert "5 s" in outcome.error.message
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert outcome.lingering is None


@pytest.mark.parametrize(
    ("default", "own", "ok"),
    [(50, None, False), (50, 0, True), (0, None, True), (0, 50, False), (50, 200, True)],
)
async def test_an_action_may_have_a_deadline_of_its_own_or_none(
    autojump_clock: trio.abc.Clock, default: float, own: float | None, ok: bool
) -> None:
    service = executor(sample(sleepy, timeout=own), timeout=default)
    assert (await service.execute("sample", {}, caller())).ok is ok


async def test_a_result_that_came_just_too_late_counts(mock_clock: trio.testing.MockClock) -> None:
    async def run(self: Action) -> int:
        await trio.lowlevel.checkpoint()
        mock_clock.jump(10)
        return 1

    assert (await call(run, timeout=5)).result == 1


async def test_cancelling_the_caller_cancels_the_action() -> None:
    ended = trio.Event()

    async def run(self: Action) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with trio.move_on_after(0) as scope:
        await call(run)
    assert scope.cancelled_caught
    assert ended.is_set()


async def test_what_fails_while_it_is_cancelled_does_not_hit_the_caller(lines: list[EventDict]) -> None:
    async def fails_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async def run(self: Action) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fails_at_the_end)

    with trio.move_on_after(0) as scope:
        await call(run)
    assert scope.cancelled_caught
    assert [line["action"] for line in lines] == ["sample"]
    assert "clean-up" in repr(lines[0]["exc_info"])


# threads


async def test_a_plain_function_runs_in_a_thread_with_the_context() -> None:
    context: ContextVar[str] = ContextVar("context")
    context.set("mine")

    def run(self: Action) -> tuple[bool, str]:
        return threading.current_thread() is threading.main_thread(), context.get()

    assert (await call(run)).result == (False, "mine")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Blocked threads wait for it; it opens at the end at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_thread_that_outlives_its_deadline_lingers_until_it_ends(gate: threading.Event) -> None:
    started = threading.Event()

    def run(self: Action) -> None:
        started.set()
        gate.wait()

    service = executor(sample(run, timeout=0.05), jobs=1)
    outcome = await service.execute("sample", {}, caller("task"))
    assert isinstance(outcome.error, ActionTimeout)
    assert started.is_set()
    assert outcome.lingering is not None
    assert not outcome.lingering.is_set()
    waiting = await service.execute("sample", {}, caller("task"))
    assert isinstance(waiting.error, ActionTimeout)
    assert waiting.lingering is None, "its thread never started"
    gate.set()
    with trio.fail_after(10):
        await outcome.lingering.wait()
    assert (await service.execute("sample", {}, caller("task"))).ok


async def test_jobs_and_other_callers_have_threads_of_their_own(gate: threading.Event) -> None:
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def block(self: Action) -> None:
        token.run_sync_soon(started.set)
        gate.wait()

    service = executor(sample(block, name="block"), sample(lambda self: 1, name="quick"), threads=1, jobs=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.execute, "block", {}, caller("task"))
        await started.wait()
        with trio.fail_after(10):
            assert (await service.execute("quick", {}, caller("web"))).ok
        gate.set()


async def test_cancelling_the_caller_leaves_the_thread_alone(gate: threading.Event) -> None:
    ended = threading.Event()
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def run(self: Action) -> None:
        token.run_sync_soon(started.set)
        gate.wait()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, run)
        await started.wait()
        nursery.cancel_scope.cancel()
    assert not ended.is_set()
    gate.set()
    assert ended.wait(10)


# middleware


class Layer(Middleware):
    """Writes down what it sees; changes or raises what it is told to."""

    def __init__(self, name: str, seen: list[Any], **tells: Any) -> None:
        self.name, self.seen, self.tells = name, seen, tells

    async def before(self, params: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        self.seen.append(("before", self.name, params))
        return self._tell("before")

    async def after(self, params: Any, connection: Connection, outcome: Outcome) -> Any:
        await trio.lowlevel.checkpoint()
        self.seen.append(("after", self.name, outcome.result if outcome.ok else type(outcome.error)))
        return self._tell("after")

    def _tell(self, when: str) -> Any:
        told = self.tells.get(when)
        if isinstance(told, BaseException):
            raise told
        return told


def layered(*tells: dict[str, Any]) -> tuple[list[Any], list[Middleware]]:
    seen: list[Any] = []
    return seen, [Layer(str(n), seen, **told) for n, told in enumerate(tells)]


async def echo(self: Action, params: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return params


async def test_middleware_wraps_the_action_like_an_onion() -> None:
    seen, middleware = layered({"before": "new", "after": "changed"}, {})
    outcome = await call(echo, middleware=middleware)
    assert seen == [("before", "0", {}), ("before", "1", "new"), ("after", "1", "new"), ("after", "0", "new")]
    assert outcome.result == "changed"


async def test_only_middleware_whose_before_returned_sees_the_outcome() -> None:
    refused = OutOfStock("no")
    seen, middleware = layered({}, {"before": refused}, {})
    outcome = await call(not_reached, middleware=middleware)
    assert outcome.error is refused
    assert seen[2:] == [("after", "0", OutOfStock)]


async def test_middleware_may_replace_an_error_and_raise_one() -> None:
    refused = OutOfStock("no")
    seen, middleware = layered({"after": "rescued"}, {"after": refused})
    assert (await call(echo, middleware=middleware)).result == "rescued"
    assert seen[-1] == ("after", "0", OutOfStock)


async def test_a_crash_that_middleware_replaces_is_still_in_the_log(lines: list[EventDict]) -> None:
    bug = ValueError("bug")
    _, middleware = layered({"after": "rescued"})
    assert (await call(raiser(bug), middleware=middleware)).ok
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert lines[0]["exc_info"] is bug


@pytest.mark.parametrize("when", ["before", "after"])
async def test_middleware_that_crashes_is_a_crash(when: str) -> None:
    bug = ValueError("bug")
    _, middleware = layered({when: bug})
    outcome = await call(echo, middleware=middleware)
    assert isinstance(outcome.error, ActionCrashed)
    assert outcome.exception is bug


async def test_the_deadline_is_for_middleware_too(autojump_clock: trio.abc.Clock) -> None:
    class Slow(Middleware):
        async def after(self, params: Any, connection: Connection, outcome: Outcome) -> None:
            await trio.sleep_forever()

    outcome = await call(echo, middleware=[Slow()], timeout=5)
    assert isinstance(outcome.error, ActionTimeout)


async def test_middleware_works_around_threads() -> None:
    _, middleware = layered({"before": "new"})
    assert (await call(lambda self, params: params, middleware=middleware)).result == "new"


# the log


LEVELS = [
    ("web", None, "info"),
    ("cli", None, "info"),
    ("task", None, "debug"),
    ("web", OutOfStock("no"), "warning"),
    ("task", OutOfStock("no"), "warning"),
    ("web", ValueError("bug"), "error"),
    ("task", ValueError("bug"), "error"),
]


@pytest.mark.parametrize(("kind", "error", "level"), LEVELS)
async def test_a_call_is_one_line(
    kind: ConnectionKind, error: Exception | None, level: str, lines: list[EventDict]
) -> None:
    async def run(self: Action) -> None:
        await trio.lowlevel.checkpoint()
        if error:
            raise error

    outcome = await call(run, kind=kind)
    (line,) = lines
    assert line["log_level"] == level
    assert (line["event"], line["action"], line["kind"], line["id"]) == (
        "action",
        "sample",
        kind,
        f"{kind}:1",
    )
    assert line["status"] == ("error" if error else "ok")
    assert line["ms"] >= 0
    assert line.get("error") == (outcome.error.type if outcome.error else None)
    assert line.get("exc_info") is (error if level == "error" else None)


async def test_a_line_tells_who_called_with_what_and_no_secrets(lines: list[EventDict]) -> None:
    class Inputs(BaseModel):
        token: SecretStr
        text: str
        number: int = 0

    service = executor(sample(lambda self: 1, Inputs=Inputs))
    job = JobContext(queue="worker", worker="w")
    connection = Connection("web", "web:1", address="10.0.0.1", correlation_id="r-1", job=job)
    raw = {"token": HIDDEN, "text": "x" * 500, "number": 5, "tokken": HIDDEN}
    await service.execute("sample", raw, connection)
    assert lines[0]["params"] == {"token": "[[secret]]", "text": "x" * 100 + "...", "number": 5}
    assert (lines[0]["address"], lines[0]["correlation_id"], lines[0]["queue"]) == (
        "10.0.0.1",
        "r-1",
        "worker",
    )


async def test_inputs_of_an_unknown_action_are_not_logged(lines: list[EventDict]) -> None:
    await executor().execute("nothing", {"password": HIDDEN}, caller())
    assert lines[0]["action"] == "nothing"
    assert HIDDEN not in str(lines)


async def test_what_is_not_logged_is_not_even_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("trioaction.action"), "disabled", True)
    monkeypatch.setattr("trioaction.executor.masked", None)
    assert (await call(echo, {"age": 1}, "task", Inputs=Age, task=Task(queue="q"))).ok


def child_failed(index: int) -> ChildFailed:
    about: dict[str, Any] = {"action": "a:b", "params": {}, "remote_type": "X", "remote_message": "x"}
    return ChildFailed(f"Child {index} failed", index=index, **about)


async def test_of_several_children_that_failed_the_first_one_is_shown() -> None:
    group = ExceptionGroup("children", [child_failed(3), child_failed(1)])

    outcome = await call(raiser(group))
    assert outcome.error is group.exceptions[0]
    assert outcome.exception is group


async def test_a_child_that_failed_beside_another_error_is_a_crash() -> None:
    group = ExceptionGroup("both", [child_failed(1), ValueError()])
    assert isinstance((await call(raiser(group))).error, ActionCrashed)
