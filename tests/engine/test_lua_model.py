"""All scripts against a plain Python model: after every step of any history, all keys are as it has them.

The steps are what processes, other programs and bad luck do to one namespace: several processes, connections
that end before or after a script has run, commands that arrive late, records that expire, keys of a wrong
type. A run tries the same histories each time; `TRIOACTION_MODEL_SECONDS` looks for others, for so long.
"""

from __future__ import annotations

import os
import time
from typing import Any, TypeVar

import pytest
import structlog
from engine.model_member import (
    APPETITES,
    CYCLE,
    DELAY,
    DISSOLVE,
    ENQUEUE,
    PLANS,
    RECONCILE,
    SELDOM,
    WAKE,
)
from engine.model_rules_drain import DrainRules
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    run_state_machine_as_test,
)

from trioaction.fanout.plan import Plan
from trioaction.resque import unique
from trioaction.work import blocked, cycle, membership

T = TypeVar("T")
SECONDS = float(os.environ.get("TRIOACTION_MODEL_SECONDS", "0"))


class Machine(DrainRules):
    """One namespace, as Redis has it and as the model does."""

    @initialize(
        appetite=st.sampled_from(APPETITES),
        plans=st.tuples(PLANS, PLANS),
        attached=st.booleans(),
        sealed=SELDOM,
        batches=st.integers(1, 3),
    )
    def begin(
        self, appetite: tuple[str, ...], plans: tuple[Plan, Plan], attached: bool, sealed: bool, batches: int
    ) -> None:
        """Two processes, a leader and two fan-outs, or it takes long until anything happens."""
        self.joined(("*",), 3)
        id = self.joined(appetite, 2)
        self.leads(id, release=False, resent=False)
        for attaches, plan in zip((attached, not attached), plans, strict=True):
            self.opened(id, None, plan, inbox="i" * attaches, front="q" * attaches)
            for number in range(batches):
                self.registered(self.ids[-1], number)
            if sealed:
                self.closed(self.ids[-1], "", "")
        self.pushed("r", [3, 9])


def explore(url: str, **options: Any) -> None:
    """Many histories; the first that goes wrong is told."""
    chosen = settings(
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        **options,
    )
    run_state_machine_as_test(lambda: Machine(url), settings=chosen)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads what is logged a thousand times."""
    monkeypatch.setattr(cycle, "CYCLE", CYCLE)
    monkeypatch.setattr(cycle, "RECONCILE", RECONCILE)
    monkeypatch.setattr(membership, "DISSOLVE", DISSOLVE)
    monkeypatch.setattr(unique, "ENQUEUE", ENQUEUE)
    monkeypatch.setattr(blocked, "WAKE", WAKE)
    monkeypatch.setattr(unique, "DELAY", DELAY)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))


@pytest.mark.usefixtures("quiet")
def test_whatever_happens_redis_is_as_the_model_has_it(redis_url: str) -> None:
    # shrinking takes minutes, and 30 steps can be read
    explore(
        redis_url,
        max_examples=120,
        stateful_step_count=30,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )


@pytest.mark.skipif(not SECONDS, reason="TRIOACTION_MODEL_SECONDS says for how long")
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("quiet")
def test_whatever_else_happens_it_is_too(redis_url: str) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        explore(redis_url, max_examples=100, stateful_step_count=80, derandomize=False)
