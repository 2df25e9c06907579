"""A process that fans out over a generator, and prints how much memory it had resident at most."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import trio
from benchmarks.application import NoOp
from benchmarks.processes import memory_of

from trioaction.cli.output import print_lines
from trioaction.config import load_settings
from trioaction.registry import registry_of
from trioaction.runtime import open_runtime


def arguments() -> argparse.Namespace:
    """The project, how many children, and the plan of the fan-out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--max-queued", type=int)
    parser.add_argument("--max-running", type=int)
    parser.add_argument("--keep", default="all")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> None:
    """Print the peak, in bytes. A checkpoint; cancelled, the fan-out is sealed."""
    registry = registry_of([NoOp])
    plan: dict[str, Any] = {"max_queued": asked.max_queued, "max_running": asked.max_running}
    async with open_runtime(load_settings(asked.root), registry, slots=0, lazy=False) as runtime:
        inputs = ({"n": n} for n in range(asked.count))
        await runtime.services.actions.fan_out(NoOp.name, inputs, keep=asked.keep, **plan)
    print_lines([str(memory_of("self", "VmHWM"))])


if __name__ == "__main__":
    trio.run(main, arguments())
