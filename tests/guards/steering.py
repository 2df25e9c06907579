"""A fan-out of any size goes at the pace that was asked for, is watched, and has its follow-up once."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import FORGED_ENDS, GIVING_WAY, PACES, STEERED_JOBS, STEERED_RECORDS, STEERING


def _guard(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    return Guard(name, f"fanout/{file}", old, new, tests or (STEERING,))


STEERED = Promise(
    "A fan-out goes at the pace that was asked for, and its follow-up comes once",
    (
        _guard(
            "registration pushes no more than may run",
            "register.lua",
            "local last = record.max_running > 0 and math.min(",
            "local last = record.max_running < 0 and math.min(",
        ),
        _guard(
            "each end lets one child out",
            "account.lua",
            "  let_next_out(keys, record)\n",
            "",
        ),
        _guard(
            "a second end lets none out",
            "account.lua",
            ":done', index, 1) == 1 then return 'again' end",
            ":done', index, 1) == 1 then let_next_out(keys, record) return 'again' end",
        ),
        _guard("places are given back", "held.lua", "record.out - 1)", "record.out)"),
        _guard(
            "a cancellation ends what is held",
            "cancel_record.lua",
            "  redis.call('DEL', at .. ':held')\n",
            "",
        ),
        _guard(
            "held children go to the head where their parent waits",
            "held.lua",
            "and 'LPUSH' or 'RPUSH'",
            "and 'RPUSH' or 'RPUSH'",
        ),
        _guard(
            "held children do not expire",
            "touch.lua",
            "local has_jobs = record.max_running > 0",
            "local has_jobs = record.max_running < 0",
        ),
        _guard(
            "a job of a damaged queue is kept",
            "../resque/push_one.lua",
            "then redis.call('RPUSH', keys.stranded_jobs, raw) end",
            "then return end",
        ),
        _guard(
            "no more are registered than may be",
            "register.lua",
            "if record.max_queued > 0 and left > 0",
            "if record.max_queued < 0 and left > 0",
        ),
        _guard(
            "who waits for room is told of it",
            "news.lua",
            "  tell_registrar(keys, id, record, counts, is_sealed)\n",
            "",
        ),
        _guard(
            "who waits for room hears of a cancellation",
            "news.lua",
            "if not is_sealed and not record.is_cancelled and 2 * left",
            "if 2 * left",
        ),
        _guard(
            "a parent that waits for room has no slot",
            "detached.py",
            "await wait(partial(self._register_in_turn, batch, room))",
            "await self._register_in_turn(batch, room)",
            STEERED_JOBS,
        ),
        _guard("only errors are kept", "account.lua", "if record.keep == 'all' then", "if true then"),
        _guard(
            "nothing is kept",
            "account.lua",
            "elseif how == 'failed' and record.keep ~= 'none'",
            "elseif how == 'failed'",
        ),
        _guard(
            "outcomes of errors end",
            "attached.py",
            "progress.completed if self._children.keeps_results else 0",
            "progress.completed",
        ),
        _guard(
            "a follow-up comes once",
            "news.lua",
            "if is_finished and counts.over ~= '1' then",
            "if is_finished then",
            FORGED_ENDS,
        ),
        _guard("a follow-up comes behind a seal", "close.lua", "tell_all(keys, {[id] = true})\n", ""),
        _guard("a follow-up comes behind a rescue", "../work/dissolve.lua", "tell_all(keys, sealed)\n", ""),
        _guard(
            "one that is for success does not follow a failure",
            "follow_up.lua",
            "counts.failed == '0' and",
            "true and",
        ),
        _guard("nor a cut", "follow_up.lua", "and counts.cut ~= '1'", "and true"),
        _guard(
            "a registration that fails is cut short",
            "detached.py",
            "await self._store.close(self.id, cut=not self._is_whole)",
            "await self._store.close(self.id)",
        ),
        _guard(
            "a registration that was whole is not cut short",
            "detached.py",
            "await self._store.close(self.id, cut=not self._is_whole)",
            "await self._store.close(self.id, cut=True)",
        ),
        _guard(
            "nor is one that a rescue seals when all are registered",
            "seal_record.lua",
            "is_whole(record) and 0 or cut",
            "cut",
        ),
        _guard(
            "what something follows is kept for long",
            "plan.py",
            "return max(self.ttl, PATIENCE) if depends else self.ttl",
            "return self.ttl",
        ),
        _guard(
            "it is not kept for so long in the end",
            "news.lua",
            "  record.ttl = record.result_ttl\n",
            "",
        ),
        _guard(
            "no place is given back that was not taken",
            "held.lua",
            "math.max(0, record.out - 1)",
            "record.out - 1",
            FORGED_ENDS,
        ),
        _guard(
            "held children that are cancelled are counted",
            "cancel_record.lua",
            "  if held > 0 then redis.pcall('INCRBY', keys.stat('cancelled'), held) end\n",
            "",
        ),
        _guard(
            "a cancellation before the seal is a cut",
            "cancel_record.lua",
            "  if sealed ~= '1' then redis.call('HSET', record.at, 'cut', is_whole(record) and 0 or 1) end\n",
            "",
        ),
        _guard(
            "what a rescue seals is cut short",
            "../work/dissolve.lua",
            "seal_record(keys, id, 1)",
            "seal_record(keys, id, 0)",
        ),
        _guard(
            "what is sealed later is cut short",
            "waiting.py",
            "await self.store.close(id, cut=cut)",
            "await self.store.close(id)",
            *(STEERING, "-k", "cut_short_later"),
        ),
        _guard(
            "what cannot be sealed is sealed later",
            "waiting.py",
            "                await self._seal_unsealed()\n",
            "",
            *(STEERING, "-k", "cut_short_later"),
        ),
        _guard(
            "any batch has room where nothing is left",
            "register.lua",
            "if record.max_queued > 0 and left > 0 and",
            "if record.max_queued > 0 and",
        ),
        _guard(
            "two batches fit into the room",
            "plan.py",
            "min(self.batch_size, max(1, self.max_queued // 2))",
            "min(self.batch_size, self.max_queued)",
        ),
        _guard(
            "who waits for room is told when half of it is free",
            "news.lua",
            "and 2 * left > record.max_queued then",
            "and left > record.max_queued then",
        ),
        _guard(
            "a nursery waits for room too",
            "children.py",
            "while not await self._asked(register):",
            "while await self._asked(register) is None:",
        ),
        _guard(
            "records of an older version have no limits",
            "record.lua",
            "(number < LIMITS and '' or '0')",
            "''",
        ),
        _guard("records of an older version keep all", "record.lua", "values[3] or 'all'", "values[3]"),
        _guard(
            "what is no job among held children takes no place",
            "held.lua",
            "    if queue then return raw, queue end\n",
            "    do return raw, queue end\n",
            STEERED_RECORDS,
        ),
        _guard(
            "nor does all that comes behind it",
            "held.lua",
            "  while raw do\n",
            "  for _ = 1, raw and 2 or 0 do\n",
            STEERED_RECORDS,
        ),
        _guard(
            "what is no job among held children is kept",
            "held.lua",
            "    redis.call('RPUSH', keys.stranded_jobs, raw)\n",
            "",
            STEERED_RECORDS,
        ),
        _guard(
            "one that is whole is not cut short by its cancellation",
            "cancel_record.lua",
            "is_whole(record) and 0 or 1)",
            "1)",
            STEERED_RECORDS,
        ),
        _guard(
            "nor by the death of its registrar",
            "seal_record.lua",
            "is_whole(record) and 0 or cut",
            "1",
            PACES,
        ),
        _guard(
            "only what was announced is known to be whole",
            "record.lua",
            "return announced == '1' and tonumber(total)",
            "return tonumber(total)",
            STEERED_RECORDS,
        ),
        _guard(
            "it is whole when as many are registered as were announced",
            "record.lua",
            "return announced == '1' and tonumber(total) == record.registered",
            "return announced == '1'",
            STEERED_RECORDS,
        ),
        _guard(
            "who waits for room registers in order",
            "detached.py",
            (
                "giving_way(queues) as wait:\n"
                "                async for batch in batches:\n"
                "                    if self._has_jobs(batch):\n"
                "                        queues.update(batch.by_queue())\n"
                "                        await wait(partial(self._register_in_turn, batch, room))\n"
            ),
            (
                "trio.open_nursery() as nursery:\n"
                "                async for batch in batches:\n"
                "                    if self._has_jobs(batch):\n"
                "                        nursery.start_soon(self._register_in_turn, batch, room)\n"
            ),
            *(PACES, "-k", "in_order"),
        ),
        _guard(
            "room is news of its own",
            "waiting.py",
            '    return f"{id}:room"\n',
            "    return id\n",
            *(PACES, "-k", "before_there_is_some"),
        ),
        _guard(
            "news of room come to who waits for it",
            "waiting.py",
            '_for_room(id) if urgency == "room" else id',
            "id",
            PACES,
        ),
        _guard(
            "news of room are told as such",
            "news.lua",
            "ring(keys, record.pace, id, 'room')",
            "ring(keys, record.pace, id, 'more')",
            PACES,
        ),
        _guard(
            "who waits for room need not hear of all else",
            "detached.py",
            "self._fan_outs.hearing_of_room(self.id)",
            "self._fan_outs.hearing(self.id)",
            PACES,
        ),
        _guard(
            "nor does a nursery",
            "children.py",
            "self._fan_outs.hearing_of_room(self.id)",
            "self._fan_outs.hearing(self.id)",
        ),
        _guard(
            "a moment without memory does not cut it short",
            "detached.py",
            "await self._fan_outs.answer(register, self._fan_outs.patience)",
            "await register()",
            *(PACES, "-k", "without_memory"),
        ),
        _guard(
            "a slot is given up once for all waits for room",
            "parking.py",
            (
                "                patience = math.inf\n"
                "                await places.enter_async_context(parked(queues))\n"
                "                await until()\n"
            ),
            "                async with parked(queues):\n                    await until()\n",
            *(STEERED_JOBS, "-k", "only_to_wait"),
        ),
        _guard(
            "who has no slot while it waits for room is in no hurry",
            "parking.py",
            "                patience = math.inf\n",
            "",
            GIVING_WAY,
        ),
        _guard(
            "a short wait for room keeps the slot",
            "parking.py",
            "        patience = HOLD_ON\n",
            "        patience = 0.0\n",
            GIVING_WAY,
        ),
        _guard(
            "a thread that is told to end starts no more children",
            "detached.py",
            "    with ended_with_its_thread():\n",
            "    if True:\n",
            *(STEERED_JOBS, "-k", "told_to_end"),
        ),
        _guard(
            "a thread that is told to end watches no longer",
            "watching.py",
            "with ended_with_its_thread(), self",
            "with self",
            *(STEERED_JOBS, "-k", "told_to_end"),
        ),
        _guard(
            "a wait ends when its thread is told to end",
            "parking.py",
            "as scope, thread.stops(scope):",
            "as scope:",
            *(STEERED_JOBS, "-k", "told_to_end"),
        ),
        _guard(
            "a thread learns why its wait has ended",
            "parking.py",
            "    if scope.cancelled_caught:\n",
            "    if False:\n",
            *(STEERED_JOBS, "-k", "told_to_end"),
        ),
    ),
)
