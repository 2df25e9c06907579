"""The table of guards is up to date; whether the guards are tested is for ``nox -s guards``."""

from __future__ import annotations

import ast
from collections import Counter

from guards.mutation import ROOT
from guards.table import PROMISES

GUARDS = [guard for promise in PROMISES for guard in promise.guards]


def test_every_guard_is_where_the_table_has_it() -> None:
    found = {f"{guard.name} ({guard.file})": guard.places(ROOT) for guard in GUARDS}
    assert {name: places for name, places in found.items() if places != 1} == {}


def test_without_a_guard_a_module_can_still_be_read() -> None:
    for guard in GUARDS:
        if guard.file.endswith(".py"):
            whole = guard.path(ROOT).read_text("utf-8")
            ast.parse(whole.replace(guard.old, guard.new), f"{guard.file}, without: {guard.name}")


def test_every_guard_has_tests_that_are_there() -> None:
    paths = {word for guard in GUARDS for word in guard.tests if word.endswith(".py")}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_every_guard_can_be_told_from_the_others() -> None:
    assert [name for name, times in Counter(guard.name for guard in GUARDS).items() if times > 1] == []
    changes = Counter((guard.file, guard.old, guard.new) for guard in GUARDS)
    assert [change for change, times in changes.items() if times > 1] == []
