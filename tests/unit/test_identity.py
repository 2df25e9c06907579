"""Who a process is: never the same twice, and dead only if the system proves it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trioaction.work.identity import Identity, this_process

ME = Identity("h", os.getpid(), "boot", "pid:[1]", "1")


def test_an_id_names_host_and_process_with_one_colon() -> None:
    me = this_process()
    assert re.fullmatch(rf"py-[^:,\s]+:{os.getpid()}\.[0-9a-f]{{6}}", me.new_id())


def test_ids_of_the_same_process_number_differ() -> None:
    """Number 1 in every container: a repeated name would overwrite records."""
    assert len({ME.new_id() for _ in range(50)}) > 45


@pytest.mark.parametrize(
    ("host", "shown"), [("web-1.example", "web-1.example"), ("a:b,c d", "a-b-c-d"), ("", "localhost")]
)
def test_a_host_name_has_no_separators_in_an_id(
    monkeypatch: pytest.MonkeyPatch, host: str, shown: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert this_process().host == shown


def test_a_record_says_all_that_a_proof_needs() -> None:
    record = this_process().record()
    assert set(record) == {"host", "pid", "boot", "space", "since"}
    assert record["pid"] == str(os.getpid())


def test_the_living_are_not_proven_dead() -> None:
    me = this_process()
    assert not me.proves_dead(me.record())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        since = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        record = me.record() | {"pid": str(child.pid), "since": since}
        assert not me.proves_dead(record)
        child.communicate(b"\n")
    assert me.proves_dead(record)


def test_a_number_that_another_process_has_by_now_is_proof() -> None:
    me = this_process()
    assert me.proves_dead(me.record() | {"since": "1"})


@pytest.mark.parametrize(
    "other",
    [
        {"boot": "another"},
        {"space": "pid:[2]"},
        {"since": ""},
        {"pid": ""},
        {"pid": "-1"},
        {"pid": "../self"},
    ],
)
def test_what_is_not_surely_of_this_machine_and_container_is_not_judged(other: dict[str, str]) -> None:
    me = this_process()
    dead = me.record() | {"pid": "4194304", "since": "1"}
    assert me.proves_dead(dead)
    assert not me.proves_dead(dead | other)


def test_an_empty_record_proves_nothing() -> None:
    assert not this_process().proves_dead({})


@pytest.mark.parametrize("unknown", [{"boot": ""}, {"space": ""}])
def test_where_the_system_does_not_tell_nothing_is_proven(unknown: dict[str, str]) -> None:
    me = replace(this_process(), **unknown)
    assert not me.proves_dead(me.record() | {"pid": "4194304", "since": "1"})


def test_a_program_with_an_odd_name_is_read_right(tmp_path: Path) -> None:
    """Its name stands in parentheses in the middle of what the system says of it."""
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    me = this_process()
    with subprocess.Popen([odd, "60"]) as child:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        assert not me.proves_dead(me.record() | {"pid": str(child.pid), "since": fields[19]})
        child.kill()
