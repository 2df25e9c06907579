"""A process that fans out over a generator, and prints how much memory it had resident at most."""

from __future__ import annotations

import sys
from pathlib import Path

import trio
from benchmarks.application import NoOp
from benchmarks.processes import memory_of

from trioaction.cli.output import print_lines
from trioaction.config import load_settings
from trioaction.registry import registry_of
from trioaction.runtime import open_runtime


async def main(root: str, count: int) -> None:
    """Print the peak, in bytes. A checkpoint; cancelled, the fan-out is sealed."""
    registry = registry_of([NoOp])
    async with open_runtime(load_settings(Path(root)), registry, slots=0, lazy=False) as runtime:
        await runtime.services.actions.fan_out(NoOp.name, ({"n": n} for n in range(count)))
    print_lines([str(memory_of("self", "VmHWM"))])


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
