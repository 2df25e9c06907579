"""The table of metrics has every metric that a scrape has, with its labels, and no other."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from sample_project import ROOT

from trioaction.action import Action
from trioaction.events import TABLE
from trioaction.testing import booted

ROW = re.compile(r"^\| `(trioaction_\w+)`(?: \*)? \|([^|]*)\|", re.MULTILINE)


class Nothing(Action):
    name = "nothing"

    async def run(self) -> None:
        """Has happened once."""


def documented() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "operating.md").read_text("utf-8").partition("## Metrics")[2]
    rows = [(name, set(re.findall(r"`(\w+)`", labels))) for name, labels in ROW.findall(text)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


async def test_every_metric_is_in_the_table_with_its_labels(redis_url: str) -> None:
    async with booted(Nothing, redis_url=redis_url) as app:
        await app.call("nothing")
        await app.services.redis.sadd(app.runtime.keys.queues, "queue")
        text = (await app.http.get("/metrics")).text
    rows = documented()
    families = [f for f in text_string_to_metric_families(text) if f.name.startswith("trioaction_")]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert set(rows) == names
    for family in families:
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            name = sample.name if sample.name in rows else family.name
            assert labels == rows[name], name
    for metric in {feed.metric for event in TABLE for feed in event.feeds}:
        assert set(metric.labels) == rows[metric.name], metric.name
