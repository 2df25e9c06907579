"""All rows by name, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks import (
    fan_outs,
    footprint,
    http_calls,
    jobs,
    latency,
    million,
    nurseries,
    operate,
    operate_delayed,
    rates,
)
from benchmarks.bench import Bench

ROWS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "drain": jobs.drain,
    "enqueue": jobs.enqueue,
    "many": jobs.enqueue_many,
    "rates": rates.rates,
    "fan-out": fan_outs.fan_out,
    "nursery": nurseries.nursery,
    "cancel": nurseries.cancel,
    "nested": nurseries.nested,
    "register": fan_outs.register,
    "flat": fan_outs.flat,
    "million": million.million,
    "lists": operate.lists,
    "delayed-lists": operate_delayed.delayed_lists,
    "latency": latency.latency,
    "herd": latency.herd,
    "http": http_calls.http,
    "memory": footprint.memory,
    "cli": footprint.cli,
}
"""Each reports one row or more; later ones are compared with what `Bench` has kept of earlier ones."""
