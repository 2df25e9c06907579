"""An environment for each peer, made once and kept: from pinned versions, and by the ordinary clients."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NODE = HERE / "node"
STAMP = ".installed"
"""A file with the digest of what was installed."""
NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement")


class NotInstalled(Exception):
    """A peer cannot be measured here; the message says why."""


def requirements(name: str) -> Path:
    """The pinned packages of a peer from PyPI."""
    return HERE / "requirements" / f"{name}.txt"


def pinned(text: str) -> dict[str, str]:
    """Names to versions in a requirements file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def locked(text: str) -> dict[str, str]:
    """Names to versions of the packages at the top of a ``package-lock.json``."""
    packages = json.loads(text)["packages"]
    names = packages[""]["dependencies"]
    return {name: packages[f"node_modules/{name}"]["version"] for name in names}


@dataclass(frozen=True, slots=True)
class Environments:
    """Those below ``folder``."""

    folder: Path

    def bin(self, name: str) -> Path:
        """The folder with the programs of a peer from PyPI."""
        return self.folder / name / "bin"

    def install_python(self, name: str) -> None:
        """Make the environment unless it is there; raises NotInstalled."""
        wanted, place = requirements(name), self.folder / name
        stamp = place / STAMP
        if _is_new(stamp, wanted):
            return
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)], place.parent)
        _run([str(self.bin(name) / "python"), *PIP, str(wanted)], place)
        stamp.write_text(_digest(wanted), "utf-8")

    def install_node(self) -> None:
        """``npm ci`` unless it is done; raises NotInstalled."""
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise NotInstalled("node and npm are not both on PATH")
        wanted, stamp = NODE / "package-lock.json", NODE / "node_modules" / STAMP
        if _is_new(stamp, wanted):
            return
        _run(NPM, NODE)
        stamp.write_text(_digest(wanted), "utf-8")


def _is_new(stamp: Path, wanted: Path) -> bool:
    return stamp.is_file() and stamp.read_text("utf-8") == _digest(wanted)


def _digest(wanted: Path) -> str:
    return hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()


def _run(command: list[str] | tuple[str, ...], cwd: Path) -> None:
    cwd.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise NotInstalled(f"{' '.join(command[:4])} failed: {ended.stderr.strip()[-500:]}")
