"""Secrets are not told: secret inputs are in no log, no reply and no entry of a fan-out."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import ADDRESS, EVENTS_LIVE, EXECUTOR, FAN_OUT_RECORD, LOG, POOL, TASK_DECLARATION

SECRETS_KEPT = Promise(
    "Secrets are not told",
    (
        Guard(
            "log lines",
            "executor.py",
            'fields["params"] = masked(declared, spec.secrets, self._longest)',
            'fields["params"] = masked(declared, frozenset(), self._longest)',
            (EXECUTOR,),
        ),
        Guard(
            "entries of a fan-out",
            "fanout/entries.py",
            "        params = {key: MASK if key in secrets else value for key, value in params.items()}\n",
            "        pass\n",
            (FAN_OUT_RECORD,),
        ),
        Guard(
            "entries of a fan-out know what is secret",
            "work/performer.py",
            "secrets = registry.get(job.action).secrets if job.action in registry else frozenset[str]()",
            "secrets = frozenset[str]()",
            (POOL, "-k", "secrets"),
        ),
        Guard(
            "what event streams tell",
            "web/streams.py",
            "**status.counters(),",
            "**status,",
            (EVENTS_LIVE, "-k", "none_tells"),
        ),
        Guard(
            "values in replies",
            "validation.py",
            "if not location or location[0] in secrets or",
            "if not location or",
            (EXECUTOR,),
        ),
        Guard(
            "messages in replies",
            "validation.py",
            'message = "is not valid" if any(text in item["msg"] for text in hidden) else item["msg"]',
            'message = item["msg"]',
            (EXECUTOR,),
        ),
        Guard(
            "the traceback of a validation",
            "validation.py",
            (
                "        problems = _problems(spec, inputs, error)\n"
                "    raise InvalidInput(\n"
                "        problems\n"
                "    )"
            ),
            (
                "        raise InvalidInput(_problems(spec, inputs, error)) from error\n"
                "    raise InvalidInput(\n"
                "        []\n"
                "    )"
            ),
            (EXECUTOR,),
        ),
        Guard("tracebacks without local variables", "log.py", "exception_formatter=plain)", ")", (LOG,)),
        Guard("lines that somebody forges", "log.py", "        _quote,\n", "", (LOG,)),
        Guard(
            "the password of Redis",
            "redis/address.py",
            'f"{user}:***@" if self.password',
            'f"{user}:{self.password}@" if self.password',
            (ADDRESS,),
        ),
        Guard(
            "names of locks",
            "task_declaration.py",
            "        yield from _secret_problems(task, model)\n",
            "",
            (TASK_DECLARATION, "-k", "part_of_a_lock"),
        ),
    ),
)
