"""Commands say what they mean: errors in their own words, names as they are listed, and where output ends."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import ADMIN, BANNER, CLI_OPERATING, COMMANDS_TOLD, OPERATE_FAILED

TOLD = Promise(
    "Commands and HTTP say what is wrong before anything is done, in words that help",
    (
        Guard(
            "a full disk is no bug of ours",
            "cli/output.py",
            "        raise Unwritable(error.strerror) from error\n",
            "        raise\n",
            (COMMANDS_TOLD, "-k", "full_disk and config"),
        ),
        Guard(
            "what could not be written is not tried again at the end",
            "cli/main.py",
            "        output.give_up()\n    for leaf in ours:\n",
            "        pass\n    for leaf in ours:\n",
            (COMMANDS_TOLD, "-k", "full_disk and config"),
        ),
        Guard(
            "help is output like any other",
            "cli/main.py",
            "        with output.in_one() if _asks_for_help(words) else nullcontext():\n",
            "        with nullcontext():\n",
            (COMMANDS_TOLD, "-k", "full_disk and help and not mail"),
        ),
        Guard(
            "help of an action is output like any other",
            "cli/flags.py",
            "    with output.in_one():  # nothing but help is printed\n",
            "    if True:\n",
            (COMMANDS_TOLD, "-k", "full_disk and mail"),
        ),
        Guard(
            "nothing is done where nobody is told",
            "cli/main.py",
            "    output.check()\n",
            "",
            (COMMANDS_TOLD, "-k", "nobody_is_told and help"),
        ),
        Guard(
            "--json turns no terminal around",
            "cli/output.py",
            "\\u202a-\\u202e\\u2066-\\u2069",
            "",
            (COMMANDS_TOLD, "-k", "turn_a_terminal"),
        ),
        Guard(
            "all is not some",
            "cli/choice.py",
            "    if all and (ids or given):\n",
            "    if False:\n",
            (COMMANDS_TOLD, "-k", "not_some"),
        ),
        Guard(
            "the help of the action is pointed to",
            "cli/main.py",
            '    if words[0] == "enqueue":\n',
            "    if False:\n",
            (COMMANDS_TOLD, "-k", "pointed_to"),
        ),
        Guard(
            "a job that was refused is never due",
            "cli/enqueue.py",
            "moment(due) if job.enqueued else None",
            "moment(due)",
            (COMMANDS_TOLD, "-k", "never_due"),
        ),
        Guard(
            "a schedule is named as it is listed",
            "cli/recurring.py",
            "    return alone, name or behind or None\n",
            "    return action, name\n",
            (COMMANDS_TOLD, "-k", "schedules_are_named"),
        ),
        Guard(
            "the longest queues are seen",
            "cli/overview.py",
            "for queue in sorted(queues, key=_matters)]",
            "for queue in queues]",
            (CLI_OPERATING, "-k", "matter"),
        ),
        Guard(
            "what kind a worker is gives way to what it does",
            "cli/overview.py",
            "        kept = [at for at in kept if at != table.spare]\n",
            "        pass\n",
            (CLI_OPERATING, "-k", "gives_way"),
        ),
        Guard(
            "a function that names the queues is shown",
            "cli/banner.py",
            '", ".join(tasks.queues) if tasks.queues_from is None else',
            '", ".join(tasks.queues) if True else',
            (BANNER,),
        ),
        Guard(
            "inputs of jobs are checked over HTTP",
            "builtin/register.py",
            "Fitting(registry), ",
            "",
            (ADMIN, "-k", "are_checked"),
        ),
        Guard(
            "and nothing of them is sent back",
            "builtin/jobs.py",
            "FieldError(_field(one.field), one.message)",
            "FieldError(_field(one.field), one.message, one.value)",
            (ADMIN, "-k", "are_checked"),
        ),
        Guard(
            "an offset that no list has",
            "operate/reading.py",
            "not 0 <= offset <= DEEPEST_OFFSET",
            "not 0 <= offset",
            (OPERATE_FAILED, "-k", "page"),
        ),
    ),
)
