"""The one place that says how the project is checked: ``nox`` runs lint, types, tests and a short soak.

Tools come from the dependency groups of ``pyproject.toml``; sessions run on the interpreter that runs nox.
``nox -s tests -- -k fan_out`` passes arguments on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox
from nox.command import CommandFailed
from nox.project import dependency_groups, load_toml

nox.needs_version = ">=2026.2"
nox.options.sessions = ["lint", "types", "tests", "interop", "soak"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

PROJECT = load_toml(Path(__file__).with_name("pyproject.toml"))
WITH_EVERYTHING = ("-e", ".[sample,testing]")
INTEROP = Path(__file__).with_name("tests") / "interop"


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, Trio mistakes, the layers of the package and the list of dependencies."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", "trioaction", "actions", "tests", "noxfile.py")
    session.run("lint-imports", "--no-cache")
    session.run("deptry", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checks, of the package and from a user's side."""
    session.install(*WITH_EVERYTHING, *_group("types"), *_group("tests"))
    python = Path(session.bin) / "python"  # else it takes the environment in .venv, which has only nox
    session.run("basedpyright", "--pythonpath", str(python), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite; the server that it needs comes from a wheel."""
    session.install(*WITH_EVERYTHING, *_group("tests"))
    session.run("pytest", "-n", "auto", f"--ignore-glob={INTEROP}/test_node_*", *session.posargs)


@nox.session
def interop(session: nox.Session) -> None:
    """Beside the real node-resque, on one server: needs node and npm, and is left out where they are not."""
    _install_node_resque(session)
    session.install(*WITH_EVERYTHING, *_group("tests"))
    session.run("pytest", "-n", "auto", str(INTEROP), *session.posargs)


@nox.session
def guards(session: nox.Session) -> None:
    """Takes away what each promise rests on, one line at a time; a test must fail each time."""
    session.install(*WITH_EVERYTHING, *_group("tests"))
    session.run("python", "tests/guards/run.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """One minute of faults, or ``-- --minutes N``, after which nothing may be lost or counted twice."""
    session.install(*WITH_EVERYTHING, *_group("tests"))
    session.run("python", "tests/soak/run.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The table of speeds. Not part of the default run: numbers depend on the machine."""
    session.install(*WITH_EVERYTHING, *_group("tests"))
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session
def curves(session: nox.Session) -> None:
    """The pictures and tables of docs/cost-curves.md; ``-- --draw`` draws what was measured before."""
    session.install(*WITH_EVERYTHING, *_group("tests"), *_group("curves"))
    session.run("python", "-m", "benchmarks.curves.main", *session.posargs, env={"PYTHONPATH": "tests"})
    session.run("pytest", "tests/unit/test_curves.py")  # only here is there something to draw with


@nox.session(name="bench-peers")
def bench_peers(session: nox.Session) -> None:
    """The same work with other job systems, for docs/benchmarks.md; each has an environment of its own."""
    session.install(*WITH_EVERYTHING, *_group("tests"))
    home = Path(session.cache_dir) / "peers"  # kept between runs
    words = ("python", "-m", "benchmarks.peers.main", f"--home={home}")
    session.run(*words, *session.posargs, env={"PYTHONPATH": "tests"})


def _install_node_resque(session: nox.Session) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        session.skip("node and npm are not both on PATH, so node-resque cannot be tried")
    wanted, there = INTEROP / "package-lock.json", INTEROP / "node_modules" / ".package-lock.json"
    if there.is_file() and there.stat().st_mtime >= wanted.stat().st_mtime:
        return
    try:
        session.run("npm", "view", "node-resque", "version", "--fetch-retries=0", external=True, silent=True)
    except CommandFailed:
        session.skip("npm does not reach its registry, so node-resque cannot be installed")
    options = ("--ignore-scripts", "--no-audit", "--no-fund")
    session.run("npm", "ci", "--prefix", str(INTEROP), *options, external=True)


def _group(name: str) -> tuple[str, ...]:
    return dependency_groups(PROJECT, name)
