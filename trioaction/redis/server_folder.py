"""The data folder of an embedded server: its files, and what must be true of it before a server runs there.

Only paths and files: it starts nothing, and never moves or deletes data.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trioaction.errors import EmbeddedServerError

SOCKET_PATH_LIMIT = 100
"""Bytes. The system's limit for the path of a Unix socket is 104 (macOS) or 108 (Linux), end included."""

SHORT_PATHS = Path("/tmp")  # noqa: S108 - fixed, since all who share a server must arrive at the same path
LOG_LIMIT = 1024 * 1024
TAIL = 10

NETWORK_FILE_SYSTEM = re.compile(
    "afpfs|afs|beegfs|ceph|cifs|coda|glusterfs|gfs2|gpfs|lustre|ncpfs|nfs|nfs4|ocfs2|orangefs|prl_fs|pvfs2|smb3"
    "|smbfs|vboxsf|vmhgfs|webdav|fuse[.](sshfs|s3fs|gcsfuse|rclone|davfs2?|ceph|glusterfs|juicefs|vmhgfs).*"
)


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The files in and around one data folder."""

    path: Path
    socket: Path

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"unix://{self.socket}"

    @property
    def users_lock(self) -> Path:
        """Shared by every process that uses the server; exclusive for who may stop it."""
        return self.path / "users.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the server process itself, and for a moment by who starts it."""
        return self.path / "server.lock"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.path / "server.log"

    def open_log(self) -> int:
        """A descriptor to append to the log; one that has grown large is put aside first."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def log_tail(self) -> str:
        """The last lines of the log, for error messages."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL:])

    def sweep(self) -> None:
        """Remove what killed rewrites of the append-only file left behind; only under the server lock."""
        for folder in (self.path, self.path / "appendonlydir"):
            for leftover in folder.glob("temp-rewriteaof-*"):
                leftover.unlink(missing_ok=True)


def open_folder(data_dir: Path) -> ServerFolder:
    """Make the folder if it is missing and check that a server can live in it; blocks on the disk.

    Raises EmbeddedServerError if it cannot be written, or is on a network file system.
    """
    try:
        path = data_dir.resolve()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_network(path)
        ignore = path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return ServerFolder(path, _socket_path(path))
    except OSError as error:
        raise unusable(data_dir, error) from error


def unusable(data_dir: Path, error: OSError) -> EmbeddedServerError:
    """The error for a folder that the operating system refuses to let us use."""
    return EmbeddedServerError(
        f"The embedded Redis cannot use its data folder {data_dir}: {error}. Make it writable, or set "
        "[redis] data_dir to another folder, or REDIS_URL to use a server of yours",
        key="redis.data_dir",
    )


def _socket_path(path: Path) -> Path:
    beside = path / "server.sock"
    if len(os.fsencode(beside)) <= SOCKET_PATH_LIMIT:
        return beside
    private = SHORT_PATHS / f"trioaction-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not private.is_dir() or private.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedServerError(
            f"{private} must be a folder that only you can enter (mode 700): remove it, or use a data_dir "
            f"with a path shorter than {SOCKET_PATH_LIMIT - len('/server.sock')} bytes",
            key="redis.data_dir",
        )
    return private / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.sock"


def _refuse_network(path: Path) -> None:
    kind = file_system(path, _mounts())
    if NETWORK_FILE_SYSTEM.fullmatch(kind):
        raise EmbeddedServerError(
            f"The data folder {path} is on a network file system ({kind}), whose locks cannot be trusted: "
            "two servers could write the same files. Set [redis] data_dir to a folder on a local disk, or "
            "REDIS_URL to use a server of yours",
            key="redis.data_dir",
        )


def file_system(path: Path, mounts: list[tuple[Path, str]]) -> str:
    """The type of the file system that holds ``path``, "" if unknown; of two on one point the later."""
    kind, depth = "", -1
    for point, mounted in mounts:
        if path.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = mounted, len(point.parts)
    return kind


def _mounts() -> list[tuple[Path, str]]:
    table = Path("/proc/self/mounts")
    if table.exists():
        lines = (line.split() for line in table.read_text("utf-8", "surrogateescape").splitlines())
        return [(Path(_unescaped(fields[1])), fields[2]) for fields in lines if len(fields) > 2]
    try:
        listed = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # not known here: better to go on than to refuse every disk
    return [(Path(point), kind) for point, kind in re.findall(r" on (.+) \((\w+)", listed)]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)
