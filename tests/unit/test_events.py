"""Events: none is logged without being counted, and those who tell of one say all that its metrics need."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator

import pytest
from house.sources import Module, modules, shown
from structlog.testing import capture_logs

from trioaction import events
from trioaction.events import TABLE, Adds, Event, Events, Metric, Sets

NAMES = {name: value for name, value in vars(events).items() if isinstance(value, Event)}


def fields_of(event: Event) -> set[str]:
    """What whoever tells of an event must say."""
    named = {feed.field if isinstance(feed, Sets) else feed.amount for feed in event.feeds}
    labels = {label for feed in event.feeds for label in feed.metric.labels}
    return labels | {name for name in named if isinstance(name, str)}


def example(event: Event) -> dict[str, float]:
    return dict.fromkeys(fields_of(event) | {"what", "seconds"}, 2.0)


def tellings() -> Iterator[tuple[Module, ast.Call]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "tell"
            ):
                yield module, node


@pytest.mark.parametrize("name", NAMES)
def test_an_event_is_logged_and_counted(name: str) -> None:
    event, told = NAMES[name], Events()
    before = {metric: dict(values) for metric, values in told.values.items()}
    with capture_logs() as lines:
        told.tell(event, **example(event))
    (line,) = lines
    assert (line["event"], line["log_level"]) == (
        event.text.format(what=2.0, seconds=2.0),
        logging.getLevelName(event.level).lower(),
    )
    changed = {metric for metric, values in told.values.items() if values != before[metric]}
    assert changed == {feed.metric for feed in event.feeds}
    assert changed, "an event that nothing counts is only a log line"


def test_an_event_counts_when_its_line_is_below_the_level_of_the_log() -> None:
    told = Events()
    logger = logging.getLogger(events.WEBSOCKET_OPENED.logger)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        told.tell(events.WEBSOCKET_OPENED, id="1")
    finally:
        logger.setLevel(level)
    assert sum(value for values in told.values.values() for value in values.values()) == 1


def test_amounts_add_up_and_states_replace_each_other() -> None:
    told = Events()
    told.tell(events.PROCESS_RESCUED, process="a", jobs_put_back=3)
    told.tell(events.PROCESS_RESCUED, process="b", jobs_put_back=4)
    told.tell(events.LEADERSHIP, process="a", delayed=True, recurring=True)
    told.tell(events.LEADERSHIP, process="a", delayed=True, recurring=False)
    values = {metric.name: dict(found) for metric, found in told.values.items()}
    assert values["trioaction_rescued_processes_total"] == {(): 2}
    assert values["trioaction_rescued_jobs_total"] == {(): 7}
    assert (values["trioaction_leads_delayed"], values["trioaction_leads_recurring"]) == ({(): 1}, {(): 0})


def test_a_counter_is_there_before_its_first_event() -> None:
    for metric, values in Events().values.items():
        assert values == ({} if metric.labels else {(): 0.0}), metric.name


def test_processes_of_one_test_do_not_share_their_numbers() -> None:
    one, other = Events(), Events()
    one.tell(events.FENCED, process="a")
    assert one.values != other.values


def test_whoever_tells_of_an_event_says_what_its_metrics_need() -> None:
    for module, call in tellings():
        where = module.at(call)
        name = ast.unparse(call.args[0])
        assert name in NAMES, f"{where}: {name} is not in the table"
        said = {keyword.arg for keyword in call.keywords}
        assert fields_of(NAMES[name]) <= said, (
            f"{where}: {fields_of(NAMES[name]) - said} of {name} is missing"
        )


def test_every_event_of_the_table_happens_somewhere() -> None:
    assert {ast.unparse(call.args[0]) for _, call in tellings()} == set(NAMES)
    assert set(TABLE) == set(NAMES.values())


def test_no_event_is_logged_past_the_table() -> None:
    texts = {event.text for event in TABLE}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and node.value in texts:
                assert shown(module.path) == "trioaction/events.py", module.at(node)


def test_whoever_could_go_without_the_events_of_the_process_gets_them() -> None:
    takers = {name for module in modules() for name in takers_of_events(module.tree)}
    assert {"open_transport", "Membership", "Crew", "supervise", "serve"} <= takers
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.args[0] if ast.unparse(node.func) == "partial" else node.func)
                given = {keyword.arg for keyword in node.keywords}
                assert name not in takers or "events" in given, f"{module.at(node)}: {name} without events"


def takers_of_events(tree: ast.AST) -> Iterator[str]:
    """Functions and classes with an optional argument ``events``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and takes_events(node):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                made = isinstance(part, ast.FunctionDef) and part.name == "__init__" and takes_events(part)
                if made or (isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "events"):
                    yield node.name


def takes_events(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return any(argument.arg == "events" and default is not None for argument, default in arguments)


def test_metrics_have_names_that_tell_what_they_are() -> None:
    feeds = [feed for event in TABLE for feed in event.feeds]
    for feed in feeds:
        assert feed.metric.name.startswith("trioaction_")
        assert feed.metric.about.endswith((".", "?"))
        counts = isinstance(feed, Adds) and feed.amount != -1
        if feed.metric.name.endswith("_total"):
            assert counts, f"{feed.metric.name} must never fall"
    names: dict[str, Metric] = {}
    for feed in feeds:
        assert names.setdefault(feed.metric.name, feed.metric) is feed.metric, "two metrics of one name"
