"""A job that is too late does not run: its moment is in its bytes from the start, and stays there."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import EXPIRY, LIFETIMES

EXPIRED = Promise(
    "A job that is too late does not run",
    (
        Guard(
            "a job whose time is up is not run",
            "work/performer.py",
            "if job.expires_at is None or now <= job.expires_at:",
            "if True:",
            (EXPIRY,),
        ),
        Guard(
            "a job whose time is not up is run",
            "work/performer.py",
            "if job.expires_at is None or now <= job.expires_at:",
            "if job.expires_at is None:",
            (EXPIRY,),
        ),
        Guard(
            "a job that expired is not retried",
            "work/retries.py",
            "PoisonJob, JobExpired,",
            "PoisonJob,",
            (LIFETIMES,),
        ),
        Guard(
            "an attempt that could only be too late is not waited for",
            "work/performer.py",
            "if job.expires_at is not None and due > job.expires_at:",
            "if False:",
            (EXPIRY,),
        ),
        Guard(
            "an action that nobody knows is no label",
            "work/performer.py",
            "return action if action in self._executor.registry else UNKNOWN",
            "return action",
            (EXPIRY,),
        ),
        Guard(
            "what another program wrote there is no moment",
            "resque/payload.py",
            "expires_at = moment if is_moment(moment) else None",
            "expires_at = moment",
            (LIFETIMES,),
        ),
        Guard(
            "a job without fields of ours has its moment too",
            "resque/payload.py",
            "return Job(action, first, expires_at=expires_at)",
            "return Job(action, first)",
            (LIFETIMES,),
        ),
        Guard(
            "the next attempt has the moment of the first",
            "resque/own_fields.py",
            "    text = _first_attempt(text, _RETRY.__contains__)\n",
            "    text = bare(text)\n",
            (LIFETIMES,),
        ),
        Guard(
            "a child has the moment of its action",
            "fanout/record.py",
            'tail = "]}" if expires_at is None else',
            'tail = "]}" if True else',
            (LIFETIMES,),
        ),
        Guard(
            "a large child has it too",
            "fanout/record.py",
            "child=Child(self._fan_out_id, index), expires_at=expires_at)",
            "child=Child(self._fan_out_id, index))",
            (LIFETIMES,),
        ),
        Guard(
            "a job has the lifetime of its action",
            "fanout/orders.py",
            "task.lifetime if task else None",
            "None",
            (LIFETIMES,),
        ),
        Guard(
            "a job that is enqueued gets its moment",
            "jobs/drafts.py",
            "if self.lifetime is None:",
            "if True:",
            (EXPIRY,),
        ),
        Guard(
            "a delayed job has its time from when it is due",
            "jobs/sending.py",
            "draft.element(max(second, now))",
            "draft.element(now)",
            (EXPIRY,),
        ),
        Guard(
            "what was due in the past has its time from now",
            "jobs/sending.py",
            "draft.element(max(second, now))",
            "draft.element(second)",
            (EXPIRY,),
        ),
        Guard(
            "a recurring run has its time from when it was due",
            "work/recurring.py",
            "element_of(recurrence, job_id, ran.last)",
            "element_of(recurrence, job_id, turn.now)",
            (EXPIRY,),
        ),
        Guard(
            "what is put back by hand has all the time",
            "resque/own_fields.py",
            "return edited(text, removed(text, parts, lambda part: part.key == EXPIRES_AT))",
            "return text",
            (LIFETIMES,),
        ),
        Guard(
            "an expiry is checked at the start",
            "task_declaration.py",
            "(_is_between(seconds, 0, LONGEST_BACKOFF) and seconds > 0)",
            "_is_between(seconds, 0, LONGEST_BACKOFF)",
            (LIFETIMES,),
        ),
        Guard(
            "what failed has no moment that nobody asked for again",
            "resque/payload.py",
            'has_ours = "_" in text or',
            "has_ours = '\"_' in text or",
            (LIFETIMES, "-k", "failed_entry"),
        ),
    ),
)
