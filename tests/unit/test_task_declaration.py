"""What is declared of a ``Task`` and its schedules: taken as it is meant, and every mistake told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr, field_validator

from trioaction.action import Action, Schedule, Task
from trioaction.errors import ActionDefinitionError
from trioaction.registry import registry_of


class Mail(BaseModel):
    to: str
    copies: int = Field(1, ge=1, alias="copyCount")
    pin: SecretStr = SecretStr("")

    @field_validator("pin")
    @classmethod
    def short(cls, pin: SecretStr) -> SecretStr:
        if len(pin.get_secret_value()) > 4:
            raise ValueError(f"{pin.get_secret_value()} is too long")
        return pin


class Bill(BaseModel):
    """Has inputs that callers may write in several ways."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    customer: int = Field(alias="customerId")
    tenant: int = Field(validation_alias=AliasChoices("tenant", "tenantId", AliasPath("of", "tenant")))
    month: int = Field(1, validation_alias=AliasPath("when", 0))
    year: int = 2026


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def action(model: type[BaseModel] | None = Mail, **task: Any) -> type[Action]:
    async def run(self: Action) -> None: ...

    declared = {"__module__": __name__, "name": "a:b", "run": run, "Inputs": model}
    return type("Sample", (Action,), {**declared, "task": Task(**{"queue": "q", **task})})


def problem(model: type[BaseModel] | None = Mail, **task: Any) -> str:
    with pytest.raises(ActionDefinitionError) as caught:
        registry_of([action(model, **task)])
    return caught.value.message


def schedule(**options: Any) -> dict[str, Any]:
    return {"schedules": [Schedule("x", **{"cron": "0 3 * * *", "inputs": {"to": "you"}, **options})]}


def test_lists_are_taken_as_tuples() -> None:
    names, times = ["to", "copyCount"], [Schedule("x", cron="0 3 * * *", inputs={"to": "you"})]
    declared = Task(queue="q", positional=names, concurrency_key=names, schedules=times)
    assert (declared.positional, declared.concurrency_key) == (tuple(names), tuple(names))
    assert declared.schedules == tuple(times)
    assert hash(declared) == hash(Task(queue="q", positional=names, concurrency_key=names, schedules=times))


def test_all_schedules_of_a_task() -> None:
    own, other = Schedule("", cron="0 3 * * *", timezone="Europe/Zurich"), Schedule("x", frequency=1000)
    declared = Task(queue="q", cron="0 3 * * *", timezone="Europe/Zurich", schedules=[other])
    assert declared.timetable == (own, other)
    assert Task(queue="q", schedules=[other]).timetable == (other,)
    assert (Task(queue="q").timetable, other.interval) == ((), 1.0)


def test_the_inputs_of_a_schedule_are_not_shown() -> None:
    assert "hunter2" not in repr(Task(queue="q", **schedule(inputs={"pin": "hunter2"})))


@pytest.mark.parametrize(
    "task",
    [
        *({"concurrency_key": key} for key in (None, "to", ["copyCount", "to"], ("to",))),
        *({"positional": names} for names in ((), ["to"], ("copyCount", "to"))),
        schedule(timezone="Europe/Zurich"),
        schedule(cron=None, frequency=timedelta(hours=1), queue="other", inputs={"to": "me", "copyCount": 2}),
    ],
)
def test_what_is_declared_well_is_taken(task: dict[str, Any]) -> None:
    assert registry_of([action(**task)]).get("a:b").task == Task(queue="q", **task)


@pytest.mark.parametrize(
    "task",
    [*({"unique": value} for value in (False, True, "queued", "delayed")), {"concurrency_key": "*"}],
)
def test_all_inputs_may_be_part_of_a_lock_if_none_is_secret(task: dict[str, Any]) -> None:
    assert registry_of([action(Anything, **task)]).get("a:b").task == Task(queue="q", **task)


IN_CLEAR = "secret, and its value would be in the names of keys in Redis, in the clear; "


@pytest.mark.parametrize(
    ("task", "named"),
    [
        (
            {"concurrency_key": "pin"},
            f"concurrency_key has 'pin', which is {IN_CLEAR}name an input that is not",
        ),
        ({"concurrency_key": ["to", "pin"]}, f"concurrency_key has 'pin', which is {IN_CLEAR}"),
        ({"concurrency_key": "*"}, f'concurrency_key = "*" is all inputs, but pin is {IN_CLEAR}name the'),
        *(
            ({"unique": value}, f"unique = {value!r}, but pin is {IN_CLEAR}let jobs have an id")
            for value in (True, "queued", "delayed")
        ),
    ],
)
def test_a_secret_is_no_part_of_a_lock(task: dict[str, Any], named: str) -> None:
    assert named in problem(**task)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("customer", "'customerId'"),
        ("customerId", "'customer'"),
        ("tenant", "'of' or 'tenantId'"),
        ("month", "'when'"),
    ],
)
def test_an_input_that_has_two_names_is_no_lock(name: str, others: str) -> None:
    told = problem(Bill, concurrency_key=["year", name])
    assert f"{name!r}, but callers may write that input as {others} too" in told
    assert "'year'" not in told
    registry_of([action(Bill, positional=[name], concurrency_key="year")])


def test_an_input_is_locked_by_the_name_that_callers_write() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        customer: int = Field(alias="customerId")

    class ByName(BaseModel):
        model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
        customer: int = Field(alias="customerId")

    told = problem(Loose, concurrency_key="customer")
    assert "concurrency_key has 'customer', but callers write that input as customerId" in told
    registry_of([action(Loose, concurrency_key=["customerId", "other"])])
    assert "no field of that name" in problem(ByName, concurrency_key="customerId")
    registry_of([action(ByName, concurrency_key="customer")])


def test_a_model_that_takes_any_name_does_so_here_too() -> None:
    registry_of(
        [action(Anything, positional=["a"], concurrency_key="b", **schedule(inputs={"c": [1, {"d": None}]}))]
    )


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({"unique": "both"}, 'unique = \'both\': it must be True, False, "queued" or "delayed"'),
        ({"unique": 1}, "unique = 1"),
        ({"unique": None}, "unique = None"),
        ({"unique": []}, "unique = []"),
        ({"positional": "to"}, "positional = 'to': it must be names of inputs"),
        ({"positional": ["to", 1]}, "positional = ('to', 1)"),
        ({"positional": ["to", "to"]}, "positional has 'to' twice"),
        ({"positional": ["copies"]}, "positional has 'copies', but Inputs has no field of that name"),
        ({"positional": ["_jobId"]}, "'_jobId', a name that is reserved"),
        ({"concurrency_key": ""}, "concurrency_key has '', but"),
        ({"concurrency_key": []}, "concurrency_key = ()"),
        ({"concurrency_key": ["to", "*"]}, 'or "*" alone'),
        ({"concurrency_key": 1}, "concurrency_key = 1"),
        ({"concurrency_key": [["to"]]}, "concurrency_key = (['to'],)"),
        ({"concurrency_key": "copies"}, "concurrency_key has 'copies', but Inputs has no field of that name"),
        ({"cron": "0 3 * *"}, "cron = '0 3 * *': it must have 5 fields: minute (0-59)"),
        ({"cron": "0 30 * * *"}, "cron = '0 30 * * *': bad hour; its fields are minute (0-59)"),
        ({"cron": 3}, "cron = 3: it must be text"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Zurch"}, "timezone = 'Europe/Zurch': there is no such"),
        ({"cron": "0 3 * * *", "timezone": 1}, "timezone = 1: it must be text"),
        ({"cron": "0 3 * * *", "frequency": 1000}, "both cron and frequency"),
        ({"timezone": "Europe/Zurich"}, "timezone = 'Europe/Zurich' is for cron"),
        ({"frequency": 1000, "timezone": "UTC"}, "timezone = 'UTC' is for cron"),
        ({"schedules": Schedule("x")}, "schedules = Schedule("),
        ({"schedules": ["0 3 * * *"]}, "schedules has '0 3 * * *', which is no Schedule"),
        (
            {"schedules": [*schedule()["schedules"], *schedule()["schedules"]]},
            "two schedules with the name 'x'",
        ),
        ({"schedules": [Schedule("", frequency=1, inputs={"to": "you"})]}, "its schedule '': a name has"),
        (
            {"schedules": [Schedule("a.b", frequency=1, inputs={"to": "you"})]},
            "its schedule 'a.b': a name has",
        ),
        ({"schedules": [Schedule("a#b", frequency=1, inputs={"to": "you"})]}, "a name has letters"),
        ({"schedules": [Schedule("a" * 51, frequency=1, inputs={"to": "you"})]}, "at most 50"),
        ({"schedules": [Schedule(1, frequency=1, inputs={"to": "you"})]}, "its schedule 1: a name"),  # pyright: ignore
        (schedule(cron=None), "its schedule 'x': it has no time"),
        (schedule(frequency=1), "its schedule 'x': it has both cron and frequency"),
        (schedule(cron=None, frequency=-1), "its schedule 'x': frequency = -1"),
        (schedule(cron="x"), "its schedule 'x': cron = 'x'"),
        (schedule(queue="a,b"), "its schedule 'x': queue = 'a,b'"),
        (schedule(inputs={}), "its schedule 'x': to: Field required"),
        (schedule(inputs=None), "its inputs must be values by name"),
        (schedule(inputs={1: 2}), "its inputs must be values by name"),
        (schedule(inputs={"to": {1, 2}}), "its inputs are not JSON: Object of type set"),
        (schedule(inputs={"to": float("nan")}), "its inputs are not JSON"),
        (schedule(inputs={"to": "\ud800"}), "its inputs are not JSON"),
        (schedule(inputs={"to": "x" * 70_000}), "its inputs have 70010 bytes; 65536 is the most"),
        (
            schedule(inputs={"to": "you", "copyCount": 0}),
            "copyCount: Input should be greater than or equal to 1",
        ),
        (schedule(inputs={"to": "you", "copies": 2}), "it has the input 'copies', but Inputs has no field"),
        (schedule(inputs={"to": "you", "_attempt": 2}), "'_attempt', a name that is reserved"),
        (schedule(inputs={"to": "you", "pin": "hunter2"}), "pin: is not valid"),
    ],
)
def test_what_is_wrong_is_told(task: dict[str, Any], named: str) -> None:
    told = problem(**task)
    assert named in told
    assert "Sample: " in told
    assert "hunter2" not in told


def test_inputs_that_are_too_deep_are_told() -> None:
    deep: Any = "you"
    for _ in range(198):
        deep = [deep]
    assert "not JSON" in problem(Anything, **schedule(inputs={"to": deep}))


def test_an_action_without_inputs_has_none_to_name() -> None:
    for task in ({"positional": ["to"]}, {"concurrency_key": "to"}, schedule()):
        assert "Inputs has no field of that name" in problem(None, **task)
    registry_of([action(None, concurrency_key="*", **schedule(inputs={}))])


def test_a_model_that_cannot_be_built_is_told_once() -> None:
    broken = type("Broken", (BaseModel,), {"__module__": __name__, "__annotations__": {"x": "NoSuchType"}})
    told = problem(broken, positional=["to"], **schedule())
    assert "Inputs cannot be built" in told
    assert "no field" not in told
