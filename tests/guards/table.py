"""All promises with what they rest on. One module each; this one joins them."""

from __future__ import annotations

from dataclasses import replace

from guards.admin import ADMINISTERED
from guards.admitted import ADMITTED
from guards.at_once import AT_ONCE
from guards.bad_data import BAD_DATA
from guards.cancelled import CANCELLED
from guards.children import CHILDREN
from guards.clean import CLEAN
from guards.clients import CLIENTS
from guards.commands import COMMANDS
from guards.commits import COMMITS
from guards.counted_once import COUNTED_ONCE
from guards.delayed import DELAYED_OPERATED, RETRIES_OPERATED
from guards.expired import EXPIRED
from guards.fleet import FLEET
from guards.foreign import FOREIGN
from guards.full_redis import FULL_REDIS
from guards.led import LED
from guards.locked import LOCKED
from guards.mutation import Promise
from guards.nurseries import NURSERIES
from guards.operated import JOBS_OPERATED, LISTS_OPERATED
from guards.parked import PARKED
from guards.poison import POISON
from guards.processes import PROCESSES
from guards.rated import RATED
from guards.runs_at_least_once import RUNS_AT_LEAST_ONCE
from guards.schedules import SCHEDULES
from guards.secrets_kept import SECRETS_KEPT
from guards.steering import STEERED
from guards.supervised import SUPERVISED
from guards.told import TOLD
from guards.unique import UNIQUE_JOBS
from guards.waiting_jobs import WAITING_JOBS, WORDS
from guards.watched import WATCHED

PROMISES = (
    RUNS_AT_LEAST_ONCE,
    COUNTED_ONCE,
    CHILDREN,
    NURSERIES,
    CANCELLED,
    PARKED,
    STEERED,
    WATCHED,
    SCHEDULES,
    EXPIRED,
    RATED,
    UNIQUE_JOBS,
    LOCKED,
    ADMITTED,
    LED,
    COMMITS,
    LISTS_OPERATED,
    JOBS_OPERATED,
    DELAYED_OPERATED,
    RETRIES_OPERATED,
    WAITING_JOBS,
    WORDS,
    POISON,
    CLEAN,
    BAD_DATA,
    FLEET,
    FOREIGN,
    FULL_REDIS,
    PROCESSES,
    SUPERVISED,
    AT_ONCE,
    CLIENTS,
    ADMINISTERED,
    COMMANDS,
    TOLD,
    SECRETS_KEPT,
)


def chosen(word: str) -> list[Promise]:
    """The promises with a word in theirs, and of the others the guards with it in their name."""
    found: list[Promise] = []
    for promise in PROMISES:
        guards = tuple(guard for guard in promise.guards if word in promise.words or word in guard.name)
        if guards:
            found.append(replace(promise, guards=guards))
    return found
