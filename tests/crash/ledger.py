"""What must be true of a namespace when its processes have ended, read from Redis alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass

from crash.cutting import FIRST_ATTEMPT
from crash.lives import ANCIENT, ATTIC, BOOM, Journal, Life
from engine.fleet import Fleet

from trioaction.fanout.entries import indexes_in
from trioaction.fanout.record import is_attached
from trioaction.work.schedule import decode

COUNTED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Ledger:
    """The books of one namespace."""

    fleet: Fleet
    life: Life
    journal: Journal

    async def settled(self) -> bool:
        """Is nothing left to do, and nothing under way?"""
        fleet, keys = self.fleet, self.fleet.keys
        recurring = await fleet.hash(keys.recurring)  # first: what starts after that is seen below
        there = await fleet.all_keys()
        busy = (keys.queue(""), keys.inflight(""), keys.own("retry"), keys.delayed(0)[:-1], keys.guard(""))
        aside = (keys.waiting(""), keys.blocked, keys.locks_of(""), keys.aside(""), keys.sieves)
        if any(key.startswith((*busy, *aside)) and key != keys.queue(ATTIC) for key in there):
            return False
        if frozenset(name.decode() for name in recurring) != self.life.recurring:
            return False
        return all([await self._closed(key) for key in self._records(there)])

    def _records(self, there: set[str]) -> list[str]:
        start = self.fleet.keys.fan_out("")
        return [key for key in there if key.startswith(start) and ":" not in key.removeprefix(start)]

    async def _closed(self, record: str) -> bool:
        fields = await self.fleet.hash(record)
        return fields[b"sealed"] == b"1" and int(fields[b"total"]) == _ended(fields)

    async def check(self, *, lived_on: bool) -> None:
        """After the last process has left; `AssertionError` says what is wrong."""
        assert await self.settled()
        await self._check_jobs(lived_on=lived_on)
        await self._check_fan_outs()
        await self._check_recurring()
        await self._check_keys()

    async def _check_jobs(self, *, lived_on: bool) -> None:
        journal, life = self.journal, self.life
        ran = {key for key in journal.ended if not key.endswith(FIRST_ATTEMPT)}
        assert journal.accepted <= ran, f"lost: {journal.accepted - ran}"
        strange = ran - journal.accepted - journal.unknown - life.born
        assert not strange, f"nobody asked for {strange}"
        failed = {key for key in ran if key.startswith(BOOM)}
        kin = await self._kin()
        assert await self._stat("processed") == len(ran) - len(failed) + kin["completed"]
        assert await self._stat("failed") == len(failed) + kin["failed"] - kin["cancelled"]
        assert await self._stat("cancelled") == kin["cancelled"] + kin["cancelled others"]
        entries = [json.loads(raw) for raw in await self.fleet.list(self.fleet.keys.failed)]
        recent = [entry["payload"]["args"][0] for entry in entries if entry["worker"] != ANCIENT]
        assert sorted(inputs["key"] for inputs in recent if "nest" not in inputs) == sorted(failed)
        assert sum("nest" in inputs for inputs in recent) == kin["failed"] - kin["cancelled"]
        wrong = [*journal.nests.wrong, *journal.steering.wrong]
        assert not wrong, "\n".join(wrong)
        if lived_on:
            twice = {key for key in ran if journal.began[key] > 1} - life.repeats
            assert not twice, f"a process that lives on ran {twice} more than once"

    async def _kin(self) -> Counter[str]:
        """How the children of nests have ended, as their records have it; deleted ones as they were.

        And how many other ones were cancelled; those that were not are told by their keys.
        """
        counts: Counter[str] = Counter()
        start = self.fleet.keys.fan_out("")
        there = {
            key.removeprefix(start): await self.fleet.hash(key)
            for key in self._records(await self.fleet.all_keys())
        }
        for id, fields in (self.journal.nests.deleted | there).items():
            if is_attached(id) or b"crash:child" in fields[b"action"]:
                counts.update({part: int(fields[part.encode()]) for part in COUNTED})
                assert int(fields[b"registered"]) == _ended(fields)
            else:
                counts["cancelled others"] += int(fields[b"cancelled"])
        return counts

    async def _stat(self, name: str) -> int:
        return int(await self.fleet.get(self.fleet.keys.stat(name)) or 0)

    async def _check_fan_outs(self) -> None:
        for id, total in self.journal.fan_outs.items():
            fields = await self.fleet.hash(self.fleet.keys.fan_out(id))
            assert int(fields[b"total"]) == total
            assert int(fields[b"failed"]) == (total == 5)
        followed: set[str] = set()
        for record in self._records(await self.fleet.all_keys()):
            fields = await self.fleet.hash(record)
            await self._check_record(record, fields)
            followed |= self._check_follow_ups(record.rpartition(":")[2], fields)
        assert followed == self.journal.steering.summaries.keys(), (
            "follow-ups that nothing was to be followed by"
        )

    async def _check_record(self, record: str, fields: dict[bytes, bytes]) -> None:
        """Each child is counted once, has the entries that are to be kept, and is not held back or out."""
        results, errors = [await self.fleet.list(f"{record}:{part}") for part in ("results", "errors")]
        indexes = [json.loads(entry)["index"] for entry in [*results, *errors]]
        cancelled = [*indexes_in(await self.fleet.get(f"{record}:cancelled") or b"")]
        failed = int(fields[b"failed"]) - len(cancelled)
        kept = {b"all": int(fields[b"completed"]) + failed, b"errors": failed, b"none": 0}
        assert len(set(indexes) | set(cancelled)) == len(indexes) + len(cancelled)
        assert len(indexes) == kept[fields[b"keep"]]
        done = [*indexes_in(await self.fleet.get(f"{record}:done") or b"")]
        assert len(done) == _ended(fields) == int(fields[b"total"]) == int(fields[b"registered"])
        assert (fields[b"out"], fields[b"over"]) == (b"0", b"1")
        parts = [f"{record}:{part}" for part in ("held", "notes", "waiting")]
        assert await self.fleet.transport.call("EXISTS", *parts) == 0

    def _check_follow_ups(self, id: str, fields: dict[bytes, bytes]) -> set[str]:
        """What was to follow has run, with the right summary; returns the keys of that."""
        names = ("total", "completed", "failed", "cancelled")
        counts = {name: int(fields[name.encode()]) for name in names}
        cut = fields[b"cut"] == b"1"
        well = not counts["failed"] and not cut and fields[b"is_cancelled"] == b"0"
        heads = [fields.get(b"then"), fields.get(b"then_if_ok") if well else None]
        keys = {json.loads(head + b"0}]}")["args"][0]["key"] for head in heads if head is not None}
        for key in keys:
            told = self.journal.steering.summaries.get(key, [])
            assert told, f"{key} has not run"
            assert all(summary == {"fanOutId": id, **counts, "cutShort": cut} for summary in told), told
        return keys

    async def _check_recurring(self) -> None:
        records = await self.fleet.hash(self.fleet.keys.recurring)
        assert {name.decode() for name in records} == self.life.recurring
        due = [record.due for raw in records.values() if (record := decode(raw)) is not None]
        assert all(at > 1000 * time.time() for at in due)
        assert len(due) == len(self.life.recurring)

    async def _check_keys(self) -> None:
        keys = self.fleet.keys
        counters = {keys.stat(name) for name in ("processed", "failed", "cancelled")}
        lasting = {keys.queues, keys.failed, keys.recurring, keys.paused, keys.queue(ATTIC)} | counters
        attic = await self.fleet.list(keys.queue(ATTIC))
        assert len(attic) == len(set(attic)), f"doubled: {attic}"
        for key in await self.fleet.all_keys() - lasting:
            assert await self.fleet.transport.call("PTTL", key) > 0, f"{key} stays for ever"
        gone = (keys.lease(""), keys.owned(""), keys.leader, keys.resque_leader)
        left = [key for key in await self.fleet.all_keys() if key.startswith(gone)]
        assert not left, f"left behind by processes that ended: {left}"


def _ended(fields: dict[bytes, bytes]) -> int:
    return int(fields[b"completed"]) + int(fields[b"failed"])
