"""All promises with what they rest on. One module each; this one joins them."""

from __future__ import annotations

from dataclasses import replace

from guards.bad_data import BAD_DATA
from guards.cancelled import CANCELLED
from guards.children import CHILDREN
from guards.clean import CLEAN
from guards.clients import CLIENTS
from guards.commits import COMMITS
from guards.counted_once import COUNTED_ONCE
from guards.expired import EXPIRED
from guards.full_redis import FULL_REDIS
from guards.mutation import Promise
from guards.nurseries import NURSERIES
from guards.parked import PARKED
from guards.poison import POISON
from guards.processes import PROCESSES
from guards.rated import RATED
from guards.runs_at_least_once import RUNS_AT_LEAST_ONCE
from guards.schedules import SCHEDULES
from guards.secrets_kept import SECRETS_KEPT
from guards.steering import STEERED
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
    COMMITS,
    POISON,
    CLEAN,
    BAD_DATA,
    FULL_REDIS,
    PROCESSES,
    CLIENTS,
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
