"""What ``trioaction start`` starts: one process, several under a supervisor, or one of those several.

A supervisor imports nothing of the server, and a single process nothing of the supervisor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trioaction.cli import output
from trioaction.errors import ConfigError, TrioactionError

if TYPE_CHECKING:
    from trioaction.config import Settings
    from trioaction.processes.member import Member

OF_A_SUPERVISOR = "TRIOACTION_CHILD"
"""Only a process that a supervisor has started has it."""


def start_server(flags: Mapping[str, Any], words: Sequence[str]) -> int:
    """Serve until told to end; returns the exit code. ``words`` are what each of several processes is told.

    Raises StartupError if it cannot start.
    """
    if OF_A_SUPERVISOR in os.environ:
        return _one_of_several(flags)
    # for a supervisor it means a roll, and is to wait until we know whether there is one, and it obeys
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        from trioaction.config import load_settings  # noqa: PLC0415  (it takes a while)

        settings = load_settings(flags=flags)
        # who asks for one for each core has a supervisor on a single core too, as SIGHUP is for it
        if settings.server.processes != 1:
            from trioaction.processes.supervisor import run_processes  # noqa: PLC0415

            return run_processes(settings, words, on_ready=_greet)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return _alone(settings)


def _alone(settings: Settings) -> int:
    from trioaction.cli.banner import banner  # noqa: PLC0415  (as load_settings)
    from trioaction.runtime import run_server  # noqa: PLC0415  (a supervisor does not need it)

    return run_server(settings, on_ready=lambda runtime, url: output.print_lines(banner(runtime, url)))


def _greet(rows: Mapping[str, str], processes: int) -> None:
    """The banner of several processes: what is the same for all of them, and how many there are."""
    from trioaction.cli.banner import lines_of  # noqa: PLC0415  (as load_settings)

    told = f"{processes} process{'' if processes == 1 else 'es'}, supervised by {os.getpid()}"
    output.print_lines(lines_of({**rows, "process": told}))


def _one_of_several(flags: Mapping[str, Any]) -> int:
    from trioaction.processes.member import Member  # noqa: PLC0415  (only one of several needs it)
    from trioaction.processes.place import take_place  # noqa: PLC0415

    member = Member(take_place())
    member.arm()
    code = 1
    try:
        code = _run(member, flags)
    except* TrioactionError as group:
        problems = list(_leaves(group))
        if not member.report_problem("; ".join(one.message for one in problems)):
            raise
        code = max(one.exit_code for one in problems)
    return code


def _run(member: Member, flags: Mapping[str, Any]) -> int:
    from trioaction.cli.banner import rows_of  # noqa: PLC0415  (as load_settings)
    from trioaction.config import load_settings  # noqa: PLC0415
    from trioaction.processes.place import fixed_by  # noqa: PLC0415
    from trioaction.runtime import run_server  # noqa: PLC0415

    settings = load_settings(flags=flags)
    member.grace = settings.tasks.grace
    if settings.web.enabled and member.place.listener is None:
        raise ConfigError(
            "web.enabled was false when the supervisor was started, so it does not listen: start it anew",
            key="web.enabled",
        )
    count = member.place.of
    return run_server(
        settings,
        member=member,
        on_ready=lambda runtime, url: member.report_up(
            rows_of(runtime, url, processes=count), fixed_by(settings)
        ),
    )


def _leaves(group: BaseExceptionGroup[TrioactionError]) -> Sequence[TrioactionError]:
    found: list[TrioactionError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
