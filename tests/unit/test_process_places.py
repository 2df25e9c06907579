"""The parts of several processes that need no process: places, reports, patience, signals."""

from __future__ import annotations

import os
from signal import SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from trioaction.processes import commands, member
from trioaction.processes.child import Child, working_folder
from trioaction.processes.commands import Commands
from trioaction.processes.member import Member
from trioaction.processes.place import VARIABLE, Order, Place, Report, decode_report, take_place
from trioaction.processes.seat import Seat


def place_of(**values: Any) -> Place:
    given: dict[str, Any] = {"listener": None, "report": 3, "lifeline": 4, "folder": "/f"}
    return Place(number=2, of=3, **given | values)


def test_a_place_comes_as_it_was_given_and_leaves_nothing_in_the_environment() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.set_inheritable(write, True)
    given = place_of(report=write, lifeline=read)
    environment = {"HOME": "/", **given.environment()}
    assert set(environment) == {"HOME", VARIABLE}
    taken = take_place(environment)
    assert taken == given
    assert environment == {"HOME": "/"}
    assert not os.get_inheritable(read)
    assert not os.get_inheritable(write)
    os.close(read)
    os.close(write)
    assert str(taken.socket_of(1)) == "/f/1.sock"
    assert place_of(folder=None).socket_of(1) is None


def test_a_report_is_read_as_it_was_written_and_half_of_one_is_none() -> None:
    report = Report({"web": "http://x", "process": "p"})
    assert decode_report(report.encode()) == report
    assert report.encode().count(b"\n") == 1
    assert decode_report(report.encode()[:-2]) is None
    assert decode_report(b"") is None


def test_a_process_reports_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member.signal, "signal", lambda *_: None)
    read, write = os.pipe()
    one = Member(place_of(report=write))
    assert one.report_problem("no")
    assert not one.report_problem("again")
    with open(read, "rb") as pipe:
        assert decode_report(pipe.read()) == Report({}, "no")


def test_a_supervisor_that_is_gone_does_not_keep_one_from_reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member.signal, "signal", lambda *_: None)
    read, write = os.pipe()
    os.close(read)
    Member(place_of(report=write)).report_up({}, {})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_pause_doubles_with_each_crash_of_the_last_minute() -> None:
    clock = Clock()
    seat = Seat(1, clock=clock)
    pauses: list[float] = []
    for _ in range(5):
        seat.crashed()
        pauses.append(seat.pause)
        clock.now += 1
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert not seat.is_hopeless
    seat.crashed()
    assert seat.is_hopeless
    clock.now += 61
    seat.crashed()
    assert not seat.is_hopeless
    assert seat.pause == 0.1


def test_who_leaves_in_order_is_no_crash_but_the_pause_is_longer_if_it_goes_on() -> None:
    seat = Seat(1, clock=Clock())
    pauses: list[float] = []
    for _ in range(7):
        seat.left()
        pauses.append(seat.pause)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert not seat.is_hopeless


def test_attempts_that_fail_make_the_pause_longer_but_are_no_crashes() -> None:
    seat = Seat(1, clock=Clock())
    seat.crashed()
    pauses: list[float] = []
    for _ in range(9):
        seat.failed()
        pauses.append(seat.pause)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert not seat.is_hopeless
    seat.take(cast("Child", SimpleNamespace(is_up=True)))
    assert (seat.pause, seat.is_taken) == (0.1, True)


class Supervisor:
    def __init__(self) -> None:
        self.did: list[Any] = []

    def stop(self) -> None:
        self.did.append("stop")

    def cancel(self, code: int) -> None:
        self.did.append(("cancel", code))

    def kill(self, code: int) -> None:
        self.did.append(("kill", code))

    def pass_on(self, number: int) -> None:
        self.did.append(("pass on", number))


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


def test_the_first_signal_drains_the_second_cancels_and_the_third_kills(supervisor: Supervisor) -> None:
    obeyed = Commands(supervisor)
    for number in (SIGTERM, SIGINT, SIGTERM):
        obeyed.do(number)
    assert supervisor.did == ["stop", ("cancel", 130), ("kill", 143)]


def test_what_each_process_obeys_itself_is_passed_on(supervisor: Supervisor) -> None:
    obeyed = Commands(supervisor)
    for number in (SIGTSTP, SIGCONT, SIGUSR1):
        obeyed.do(number)
    assert supervisor.did == [("pass on", number) for number in (SIGTSTP, SIGCONT, SIGUSR1)]


async def test_many_signals_are_one_roll(supervisor: Supervisor, autojump_clock: object) -> None:
    obeyed = Commands(supervisor)
    obeyed.do(SIGHUP)
    obeyed.do(SIGHUP)
    await obeyed.roll_wanted()
    with trio.move_on_after(1) as waiting:
        await obeyed.roll_wanted()
    assert waiting.cancelled_caught
    assert supervisor.did == []


def test_a_terminal_that_is_gone_ends_all(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = os.openpty()
    monkeypatch.setattr(commands, "STANDARD", (terminal,))
    obeyed = Commands(supervisor)
    obeyed.do(SIGHUP)
    assert supervisor.did == []
    os.close(master)
    obeyed.do(SIGHUP)
    assert supervisor.did == ["stop"]
    os.close(terminal)


def test_orders_are_no_exit_codes() -> None:
    assert max(Order) < 128 + min(SIGINT, SIGTERM) < 256


def test_the_working_folder_keeps_the_name_of_a_link(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "releases" / "1")
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    assert working_folder() == str(link)
    for other in ("/", "relative", str(tmp_path)):
        monkeypatch.setenv("PWD", other)
        assert working_folder() == str((tmp_path / "releases" / "1").resolve())
