"""A command on a pseudo-terminal of its own, as somebody sits at it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.servers import command, environment
from polling import until

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Screen:
    """A process whose standard error is a terminal; its standard output is a file, or the terminal too."""

    process: subprocess.Popen[bytes]
    output: Path
    terminal: int
    raw: str = ""

    @property
    def text(self) -> str:
        """All that was ever drawn, without colours; ``\\r`` and newlines as they came."""
        try:
            while data := os.read(self.terminal, 65536):
                self.raw += data.decode("utf-8", "replace")
        except OSError:  # nothing just now, or nobody is left who could write
            pass
        return _CONTROL.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        """What was ever a line on it, without the empty ones."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text) if line.strip()]

    @property
    def out(self) -> str:
        return self.output.read_text()

    async def shows(self, *words: str) -> None:
        """Wait for a line that has all of these words."""
        await until(lambda: any(all(word in line for word in words) for line in self.lines), seconds=20)

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.terminal, (24, columns))

    def types(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    async def ended(self) -> int:
        """The exit code."""
        await until(lambda: bool(self.text) and self.process.poll() is not None, seconds=20)
        return self.process.returncode


@contextmanager
def on_screen(project: Path, *words: str, whole: bool = False, **extra: str) -> Generator[Screen]:
    """Start a command line on a terminal of 100 columns; it is killed at the end, if it still runs.

    With ``whole`` its standard input and output are that terminal, too.
    """
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    os.set_blocking(terminal, False)
    output = project / f"screen-{terminal}.out"
    env = {key: value for key, value in environment(**extra).items() if key not in {"NO_COLOR", "COLUMNS"}}
    with output.open("wb") as out:
        process = subprocess.Popen(
            command(*words),
            cwd=project,
            env=env | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
            stdin=theirs if whole else subprocess.DEVNULL,
            stdout=theirs if whole else out,
            stderr=theirs,
        )
    os.close(theirs)
    try:
        yield Screen(process, output, terminal)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
