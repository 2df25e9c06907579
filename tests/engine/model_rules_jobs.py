"""Jobs that come, wait for a time, or recur: rules of the machine of all scripts."""

from __future__ import annotations

from typing import TypeVar

from engine.model_locks import LEASE
from engine.model_member import (
    DATA,
    MOST_JOBS,
    QUEUES,
    RECURRENCES,
    SELDOM,
)
from engine.model_process import TERM, child
from engine.model_stage import Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)
from redis.exceptions import ResponseError

from trioaction.resque import delayed
from trioaction.resque.payload import encode
from trioaction.work import recurring, scheduler
from trioaction.work.recurring import Recurring
from trioaction.work.schedule import Look, Recurrence

T = TypeVar("T")


def seen(look: Look) -> tuple[bool, float, int]:
    return look.leads, look.due, len(look.problems)


class JobRules(Stage):
    """Jobs that come, wait for a time, or recur: rules of the machine of all scripts."""

    # jobs

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(queue=st.sampled_from(QUEUES), kinds=st.lists(st.integers(0, 9), min_size=1, max_size=5))
    def push(self, queue: str, kinds: list[int]) -> None:
        """Somebody enqueues jobs, perhaps two equal ones."""
        self.pushed(queue, kinds)

    def pushed(self, queue: str, kinds: list[int]) -> None:
        """Unless a key is in the way."""
        if not kinds or not self.world.fits(self.keys.queue(queue), self.keys.queues):
            return
        raws = [self.element(queue, kind) for kind in kinds]
        self.wire.send("SADD", self.keys.queues, queue)
        self.wire.send("RPUSH", self.keys.queue(queue), *raws)
        self.world.push(queue, raws)

    def element(self, queue: str, kind: int) -> bytes:
        """A job; some that others may write."""
        id = self.ids[-1]
        odd = {
            0: b"not json",
            1: b'{"class":"test:big","queue":"%s","args":[{"x":"%s"}]}' % (queue.encode(), b"x" * 400_000),
            2: b'{"queue": "q", "class": "c", "args": [{"n": 1, "_fanOutIndex": 1, "_fanOutId": "%s"}]}'
            % id.encode(),
            3: child(0, self.ids[0], queue),
            4: child(4_000_000_000, id, queue),
            5: encode("test:twin", queue, {}),
            6: encode("test:one", queue, {"u": 6}),
            7: encode("test:one", queue, {"u": 7, "n": self.number()}),
        }
        return odd.get(kind) or encode("test:job", queue, {"n": self.number()})

    @precondition(lambda self: self.world.jobs < MOST_JOBS)
    @rule(queue=st.sampled_from(["q", "r", ""]), twin=SELDOM, soon=st.sampled_from([-5, 0, 1, 60]))
    def delay(self, queue: str, twin: bool, soon: int) -> None:
        """Somebody puts a job off; a queue without a name is one that cannot be found in it."""
        raw = encode("test:later", queue, {} if twin else {"n": self.number()}) if queue else b"[]"
        second = int(self.now) + soon
        refused = False
        try:
            self.run(lambda: delayed.delay(self.wire.transport, self.keys, second, raw))
        except ResponseError as error:
            refused = "WRONGTYPE" in str(error)
        assert self.world.delay(second, raw) is not refused

    @rule(seconds=st.sampled_from([1, 60, 4000]))
    def time_passes(self, seconds: int) -> None:
        """It is later."""
        self.now += seconds

    @precondition(lambda self: self.members)
    @rule(data=DATA, release=SELDOM, resent=SELDOM)
    def lead(self, data: st.DataObject, release: bool, resent: bool) -> None:
        """A process leads, or gives up."""
        self.leads(self.member(data).id, release=release, resent=resent)

    def leads(self, id: str, *, release: bool, resent: bool) -> None:
        """One turn of a scheduler."""
        args = (self.keys.namespace, id, LEASE, TERM, "release" if release else "take")
        with self.wire.fated("resent" if resent else "answered"):
            words = self.run(lambda: scheduler.LEAD.run(self.wire.transport, (), args, retry=True))
        assert [word.decode() for word in words] == self.world.lead(id, release=release)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def promote(self, data: st.DataObject) -> None:
        """A process moves delayed jobs that are due."""
        self.promoted(self.member(data).id)

    def promoted(self, id: str) -> None:
        """If it leads."""
        look = self.run(lambda: self.promotion.delayed(id, self.now))
        assert seen(look) == self.world.promote(id, self.now, self.failed_at)

    @precondition(lambda self: self.members)
    @rule(data=DATA)
    def try_again(self, data: st.DataObject) -> None:
        """A process moves retries that are due."""
        self.tried_again(self.member(data).id)

    def tried_again(self, id: str) -> None:
        """If it leads."""
        look = self.run(lambda: self.promotion.retries(id, self.now))
        assert seen(look) == self.world.retry(id, self.now, self.failed_at)

    @precondition(lambda self: self.members and self.world.jobs < MOST_JOBS)
    @rule(data=DATA, known=st.sampled_from([RECURRENCES, RECURRENCES[:1], RECURRENCES[1:]]), resent=SELDOM)
    def recur(self, data: st.DataObject, known: tuple[Recurrence, ...], resent: bool) -> None:
        """A process looks for recurring actions that are due."""
        id = self.member(data).id
        looker = Recurring(self.wire.transport, self.keys, known, lease_ms=LEASE)
        with self.wire.fated("resent" if resent else "answered"):
            look = self.run(lambda: looker.look(id, self.now))
        words = [command[3:] for command in self.wire.sent if command[1] == recurring.FIRE.sha]
        job_ids = {str(word[3]): str(word[9]) for word in words}
        leads, problems = self.world.recur(id, self.now, known, job_ids)
        assert (look.leads, len(look.problems)) == (leads, problems)

    @rule(
        action=st.sampled_from([one.action for one in RECURRENCES]), deaths=st.booleans(), marks=st.booleans()
    )
    def what_is_remembered_lapses(self, action: str, deaths: bool, marks: bool) -> None:
        """A run that never ended counts as running no more; nobody has died for an hour; and so on."""
        if self.world.guards.pop(action, None):
            self.wire.send("DEL", self.keys.guard(action))
        if deaths and self.world.fits(self.keys.deaths):
            self.world.deaths.clear()
            self.wire.send("DEL", self.keys.deaths)
        for id in [*self.world.marks] if marks else ():
            del self.world.marks[id]
            self.world.rung.add(self.keys.cancelled(id))
            self.wire.send("DEL", self.keys.cancelled(id))
