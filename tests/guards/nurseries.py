"""A fan-out that is waited for is a nursery: its block ends after its children, however it ends."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import (
    CANCELLED_CHILDREN,
    OPEN_FAN_OUT,
    OUTCOMES,
    REGISTRAR,
    RUN_AND_WAIT,
    WAITING,
)

NURSERIES = Promise(
    "A fan-out that is waited for is a nursery",
    (
        Guard(
            "a failure cancels the siblings",
            "fanout/children.py",
            'or (self.progress.failed and self._terms.on_failure == "cancel"):',
            "or False:",
            (OPEN_FAN_OUT, "-k", "cancels_the_body"),
        ),
        Guard(
            "collected failures cancel nothing",
            "fanout/children.py",
            '(self.progress.failed and self._terms.on_failure == "cancel"):',
            "self.progress.failed:",
            (OPEN_FAN_OUT, "-k", "collected"),
        ),
        Guard(
            "a block ends when its record is sealed",
            "fanout/children.py",
            "if followed.sealed and followed",
            "if followed",
            (OPEN_FAN_OUT,),
        ),
        Guard(
            "who is cancelled cancels its children",
            "fanout/children.py",
            "        except BaseException:\n            with self",
            "        except ZeroDivisionError:\n            with self",
            (RUN_AND_WAIT, "-k", "cancelling_it"),
        ),
        Guard(
            "a lost owner is told",
            "fanout/children.py",
            "            if not await self._follow(scope):\n",
            "            if await self._follow(scope) is None:\n",
            (OPEN_FAN_OUT, "-k", "owner_is_lost"),
        ),
        Guard(
            "who gives up leaves the cancellation to others",
            "fanout/children.py",
            "        except RedisUnavailable:\n            self._abandon()\n            raise",
            "        except RedisUnavailable:\n            raise",
            (WAITING, "-k", "without_an_answer"),
        ),
        Guard(
            "who is cancelled waits less for Redis",
            "fanout/children.py",
            "await self._asked(partial(self._store.cancel, self.id), HASTE)",
            "await self._asked(partial(self._store.cancel, self.id))",
            (WAITING, "-k", "waits_less"),
        ),
        Guard(
            "the place is given up when the body has ended",
            "fanout/children.py",
            "        self.registrar.close()\n        self._park()\n",
            "        self.registrar.close()\n",
            (WAITING,),
        ),
        Guard(
            "the place is given up while cancelled children end",
            "fanout/children.py",
            "            if followed.is_cancelled:\n                self._park()\n",
            "",
            (WAITING,),
        ),
        Guard(
            "news wakes who waits",
            "fanout/waiting.py",
            'listener.ring(urgent=urgency == "now")',
            "pass",
            (OPEN_FAN_OUT,),
        ),
        Guard(
            "what may have been missed is looked for",
            "fanout/waiting.py",
            "            self._wake_all()\n            self.on_cancelled(None)",
            "            self.on_cancelled(None)",
            (WAITING,),
        ),
        Guard(
            "the pool looks for what may have been missed",
            "fanout/waiting.py",
            "            self.on_cancelled(None)\n",
            "",
            (WAITING,),
        ),
        Guard(
            "the pool hears of cancellations",
            "fanout/waiting.py",
            "self.on_cancelled(text.removeprefix(self._cancelled))",
            "pass",
            (WAITING,),
        ),
        Guard(
            "records of who waits are kept",
            "fanout/waiting.py",
            "await self.store.refresh(list(self._paces))",
            "pass",
            (OPEN_FAN_OUT, "-k", "is_kept"),
        ),
        Guard(
            "what was left is cancelled later",
            "fanout/waiting.py",
            "                await self._cancel_abandoned()\n",
            "",
            (WAITING,),
        ),
        Guard(
            "a last wait has its bound",
            "fanout/waiting.py",
            "shield=True, deadline=trio.current_time() + self._hurry",
            "shield=True",
            (WAITING,),
        ),
        Guard(
            "who is in its last wait is hurried",
            "fanout/waiting.py",
            "            scope.deadline = min(scope.deadline, latest)\n",
            "            pass\n",
            (WAITING,),
        ),
        Guard(
            "a last wait is not cancelled",
            "fanout/waiting.py",
            "CancelScope(shield=True, deadline",
            "CancelScope(deadline",
            (RUN_AND_WAIT, "-k", "cancelling_it"),
        ),
        Guard(
            "errors are side by side in one group",
            "fanout/attached.py",
            "raised += group.exceptions",
            "raised.append(group)",
            (OPEN_FAN_OUT,),
        ),
        Guard(
            "a cancellation comes out once",
            "fanout/outcomes.py",
            "if isinstance(error, trio.Cancelled)][:1]",
            "if isinstance(error, trio.Cancelled)]",
            (OUTCOMES,),
        ),
        Guard(
            "a cancellation alone is no group",
            "fanout/outcomes.py",
            "    if everything == cancelled:\n        return cancelled[0]\n",
            "",
            (OUTCOMES,),
        ),
        Guard(
            "children are registered in their order",
            "fanout/registrar.py",
            "waiting.popleft()",
            "waiting.pop()",
            (REGISTRAR,),
        ),
        Guard(
            "who starts too many waits",
            "fanout/registrar.py",
            "len(self._waiting) >= BUFFERED * self._size or ",
            "",
            (REGISTRAR,),
        ),
        Guard(
            "nothing is started after the end",
            "fanout/registrar.py",
            "        if self.closed and not self.dropped:\n            raise",
            "        if False:\n            raise",
            (REGISTRAR,),
        ),
        Guard(
            "what was not registered is dropped",
            "fanout/registrar.py",
            "        self._waiting.clear()\n",
            "",
            (REGISTRAR,),
        ),
        Guard(
            "children of others go on",
            "work/cancelling.py",
            "if child is not None and child.fan_out_id in ids:",
            "if child is not None:",
            (CANCELLED_CHILDREN,),
        ),
        Guard(
            "children end between two exchanges only",
            "work/shift.py",
            "    def _wake(self) -> None:\n        self._woken.set()",
            (
                "    def _wake(self) -> None:\n"
                "        self._woken.set()\n"
                "        if self._cancelling.ids:\n"
                "            self._cancel_children()"
            ),
            (CANCELLED_CHILDREN, "-k", "answered_after"),
        ),
        Guard(
            "a reconnect asks what was cancelled",
            "work/shift.py",
            "        self._lookout.hungry = self._cancelling.unsure = True\n",
            "        self._lookout.hungry = True\n",
            (CANCELLED_CHILDREN,),
        ),
        Guard(
            "a suspect that waits is cancelled",
            "work/shift.py",
            "        if job is not None and self._suspect.waits and job in unwanted:",
            "        if False:",
            (CANCELLED_CHILDREN,),
        ),
        Guard(
            "a cancelled child is not tried again",
            "work/performer.py",
            'outcome.ok or slot.stopped == "cancelled"',
            "outcome.ok",
            (CANCELLED_CHILDREN,),
        ),
    ),
)
