"""Parts of the commands that operate tasks: what people type, what fits a terminal, and progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr
from rich.console import Console

from trioaction.cli.cells import short
from trioaction.cli.choice import choose
from trioaction.cli.enqueue import LATER, due_of, seconds_in, time_in, typed
from trioaction.cli.flags import flags_of
from trioaction.cli.overview import Drawing, Glance, Rows, rooms
from trioaction.cli.ticker import CLEAR, Ticker
from trioaction.errors import MalformedRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        ("0.5", 0.5),
    ],
)
def test_delays(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds
    assert due_of({"in": text}, 100.0) >= 100 + seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "5x", "s", "1e9", "11000d", "nan", "5 m"])
def test_what_is_no_delay(text: str) -> None:
    with pytest.raises(MalformedRequest, match="--in"):
        seconds_in(text)


def test_moments() -> None:
    moment = datetime(2026, 12, 24, 7, tzinfo=UTC)
    assert time_in("2026-12-24T08:00+01:00") == time_in("2026-12-24T07:00Z") == moment
    assert due_of({"at": str(moment.timestamp())}, 0) == moment.timestamp()
    assert due_of({}, 0) is None
    for text in ("2026-12-24T08:00", "noon", "", "-5", "9" * 13):
        with pytest.raises(MalformedRequest, match="--at"):
            time_in(text)


class Address(BaseModel):
    number: int


class Inputs(BaseModel):
    n: int = 0
    price: Decimal = Decimal(0)
    wait: timedelta = timedelta(0)
    text: str = ""
    is_on: bool = Field(default=False, alias="isOn")
    many: list[float] = []
    pin: SecretStr = SecretStr("")
    pins: list[SecretStr] = []
    home: Address | None = None
    delay: int = Field(0, alias="in")


def test_flags_become_what_a_program_would_give() -> None:
    raw: dict[str, Any] = {
        "n": "5",
        "price": "1.50",
        "wait": "PT2.5S",
        "text": "5",
        "isOn": "yes",
        "many": ["1", "2.5"],
        "pin": "1234",
        "pins": ["1", "2"],
        "home": {"number": "7"},
    }
    params = Inputs.model_validate(raw)
    assert typed(params, raw) == raw | {"n": 5, "isOn": True, "many": [1.0, 2.5]}
    assert typed({}, {}) == {}


def test_an_input_does_not_hide_an_option_of_enqueue() -> None:
    [flag] = [flag for flag in flags_of(Inputs, frozenset(), LATER) if flag.key == "in"]
    assert flag.names == ()
    assert [flag.names for flag in flags_of(Inputs) if flag.key == "in"] == [("--in",)]


def test_texts_are_short_and_command_no_terminal() -> None:
    assert short("a\n\x1b[2J\tb") == "a ?[2J b"
    assert short("x" * 300, 10) == "xxxxxxx..."
    assert short("") == "-"


async def test_who_gives_whole_ids_need_not_wait_for_the_end() -> None:
    class Items:
        def __init__(self) -> None:
            self.left = ["c" * 40, "b" * 40, "a" * 40]

        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    items = Items()
    ticker = Ticker(is_shown=False)
    chosen = await choose(["a" * 40], items, lambda id: id, ticker)
    assert (chosen.found, chosen.missing, len(items.left)) == (["a" * 40], [], 2)
    chosen = await choose(["b" * 6, "d" * 6], Items(), lambda id: id, ticker)
    assert (chosen.found, chosen.missing) == (["b" * 40], ["d" * 6])


def test_a_line_of_progress_comes_when_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    ticker = Ticker(is_shown=True, clock=lambda: now[0])
    choice = ticker.watching(lambda number: number % 2 == 0)
    assert [choice(number) for number in range(3)] == [True, False, True]
    ticker.clear()
    assert capsys.readouterr().err == ""
    now[0] = 1
    choice(3)
    choice(4)
    ticker.clear()
    assert capsys.readouterr().err == f"{CLEAR}4 looked at, 2 chosen{CLEAR}"


def test_rows_that_one_table_does_not_need_are_for_others() -> None:
    tables = [Rows(("A",), [("x",)] * number) for number in (100, 2, 30)]
    given = rooms(tables, 40)
    assert given[1] == 2
    assert sum(given) <= 40
    assert abs(given[0] - given[2]) <= 1
    assert rooms(tables, None) == [100, 2, 30]
    assert rooms(tables, 3) == [1, 1, 1]


def glance(queues: int) -> Glance:
    name = "a-very-long-name-of-a-queue-that-goes-on" * 3
    return Glance(
        at=1_795_000_000.0,
        namespace="ns",
        details={
            "queues": [{"name": f"{n} {name}", "length": 12345678, "paused": True} for n in range(queues)],
            "workers": [],
            "stats": {"processed": 1, "failed": 2, "cancelled": 3},
            "leader": {"delayed": None, "recurring": "x" * 300},
            "failed": 0,
            "delayed": 0,
            "retries": 0,
        },
        newest=None,
        next=None,
        blocked=[],
        blocked_in_all=0,
    )


def worker(name: str, action: str) -> dict[str, Any]:
    job = {"action": action, "args": [{"to": "ada@example.com"}]}
    return {"name": name, "kind": "trioaction", "lost": False, "since": None, "job": job}


def drawn(glance: Glance, width: int, height: int | None = None) -> str:
    console = Console(width=width, height=height or 50, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(Drawing(glance, height))
    return capture.get()


def test_queues_that_matter_are_seen() -> None:
    seen = glance(0)
    lengths = {"zebra": 3, "zoo": 5, "yak": 0} | {f"calm-{n:02}": 0 for n in range(40)}
    seen.details["queues"].extend(
        {"name": name, "length": length, "paused": name == "yak"} for name, length in lengths.items()
    )
    lines = [line.split() for line in drawn(seen, 80, 20).splitlines()]
    at = lines.index(["QUEUE", "JOBS"])
    assert [line[0] for line in lines[at + 1 : at + 6]] == ["yak", "zoo", "zebra", "calm-00", "calm-01"]


def test_what_kind_a_worker_is_gives_way_first() -> None:
    seen = glance(0)
    seen.details["workers"].append(worker("web1:3406:1", "emails:send"))
    assert "trioaction  " in drawn(seen, 80).splitlines()[-1]
    row = drawn(seen, 30).splitlines()[-1]
    assert len(row) <= 30
    assert row.startswith("web1:34")
    assert "emails" in row
    assert "KIND" not in drawn(seen, 30)


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_drawing_fits_its_terminal(width: int) -> None:
    console = Console(width=width, height=20, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(Drawing(glance(100), 20))
    lines = capture.get().splitlines()
    assert len(lines) <= 20
    assert max(len(line.rstrip()) for line in lines) <= width
    row = next(line for line in lines if line.startswith("0 a-very"))
    assert "12,345,678" in row
    assert "paused" in row
    assert lines[-1].startswith("and ")
