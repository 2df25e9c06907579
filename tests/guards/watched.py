"""How far a fan-out has come is seen by whoever watches it, at once and as it is, and costs little."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import (
    CLI_BARS,
    CLI_PROGRESS,
    FAN_OUT,
    FAN_OUT_COMMAND,
    FORGED_ENDS,
    NOTES,
    PACES,
    STEERED_JOBS,
    STEERED_RECORDS,
    STEERING,
    STEERING_OPTIONS,
    TOLD_IN_VAIN,
    TOLD_OF_MOVES,
    WATCHING,
)


def _guard(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    return Guard(name, f"fanout/{file}", old, new, tests or (WATCHING,))


def _note(name: str, old: str, new: str) -> Guard:
    return Guard(name, "work/notes.py", old, new, (NOTES,))


def _bar(name: str, old: str, new: str) -> Guard:
    return Guard(name, "cli/progress.py", old, new, (CLI_PROGRESS,))


WATCHED = Promise(
    "How far a fan-out has come is seen",
    (
        _guard(
            "a watch ends with its fan-out",
            "watching.py",
            "if last.finished or not last.known:",
            "if not last.known:",
            *(STEERING, "-k", "two_processes"),
        ),
        _guard(
            "a watch on nothing ends",
            "watching.py",
            "if last.finished or not last.known:",
            "if last.finished:",
            *(STEERING, "-k", "on_nothing"),
        ),
        _guard(
            "a job that watches has no slot meanwhile",
            "watching.py",
            "            async with parked(last.queues or ANY_QUEUE):\n",
            "            if True:\n",
            STEERED_JOBS,
        ),
        _guard(
            "there is one look in an interval",
            "watching.py",
            "            await trio.sleep_until(self._looks_at)\n",
            "",
        ),
        _guard("nothing new is no status", "watching.py", "if _differs(status, last):", "if True:"),
        _guard(
            "what running children say is new",
            "watching.py",
            " or any(getattr(one, name) != getattr(other, name) for name in FanOutStatus.__slots__)",
            "",
            *(STEERING, "-k", "how_far"),
        ),
        _guard(
            "each look asks for the next news",
            "watching.py",
            "inbox=self._fan_outs.inbox)",
            'inbox="")',
            *(STEERING, "-k", "sees_changes or nothing_happens"),
        ),
        _guard(
            "who watches listens",
            "watching.py",
            "        fan_outs.listen()\n",
            "",
            *(STEERING, "-k", "sees_changes or nothing_happens"),
        ),
        _guard(
            "who watches leaves nothing for ever",
            "watch.lua",
            "  if ttl >= 0 then redis.call('PEXPIRE', watchers, ttl) end\n",
            "",
        ),
        _guard(
            "who watches is told",
            "news.lua",
            "for _, inbox in ipairs(redis.call('SMEMBERS', watchers)) do",
            "for _, inbox in ipairs({}) do",
            STEERING,
        ),
        _guard(
            "all listeners hear",
            "waiting.py",
            'in self._listeners.get(_for_room(id) if urgency == "room" else id, ()):',
            'in list(self._listeners.get(_for_room(id) if urgency == "room" else id, ()))[:1]:',
            *(STEERING, "-k", "two_processes"),
        ),
        _guard(
            "those run of a cancelled one that have not ended",
            "status.lua",
            "record.is_cancelled and record.registered or redis",
            "redis",
            *(STEERING, "-k", "ends_what_is_held"),
        ),
        _guard(
            "never less than none run",
            "status.lua",
            "math.max(0, started - ended)",
            "started - ended",
            FORGED_ENDS,
        ),
        _guard(
            "a note of a child that has ended is not kept",
            "note.lua",
            "  if redis.call('GETBIT', record.at .. ':done', index) == 1 then return end\n",
            "",
            STEERING,
        ),
        _guard(
            "a note ends with its child",
            "account.lua",
            "  if record.has_notes == 1 then redis.call('HDEL', record.at .. ':notes', index) end\n",
            "",
            STEERING,
        ),
        _guard(
            "a note of a child that does not run is not kept",
            "note.lua",
            " or redis.call('GETBIT', record.at .. ':started', index) == 0",
            "",
        ),
        _guard(
            "a note ends with its attempt",
            "put_off.lua",
            "  redis.call('HDEL', record.at .. ':notes', index)\n",
            "",
        ),
        _guard(
            "a note of a child that went back ends",
            "started.lua",
            "then redis.call('HDEL', record_of(keys, id).at .. ':notes', index) end",
            "then return end",
        ),
        _guard(
            "who speaks keeps the record",
            "note.lua",
            "touch_all(keys, touched)\n",
            "",
        ),
        _guard(
            "notes that somebody else has written",
            "views.py",
            "        with suppress(ValueError):\n            reports",
            "        with suppress():\n            reports",
            STEERING,
        ),
        Guard(
            "a note is of numbers",
            "connection.py",
            "int | float) or not 0 <= number < math.inf:",
            "int | float):",
            (STEERED_JOBS,),
        ),
        _note(
            "the newest word counts",
            "self._latest[child] = Report(done, of)",
            "self._latest.setdefault(child, Report(done, of))",
        ),
        _note(
            "threads may speak",
            "self._token.run_sync_soon(self._wake, idempotent=True)",
            "self._wake()",
        ),
        _guard(
            "starts are told to those who watch",
            "news.lua",
            "    elseif not record.code and record.has_moved then\n",
            "    elseif false then\n",
        ),
        _note("nobody hears the last threads", "suppress(trio.RunFinishedError)", "suppress()"),
        _note("words are sent now and then", "            await trio.sleep(PAUSE)\n", ""),
        _note("a word may be lost", "suppress(RedisError)", "suppress()"),
        _guard(
            "of inputs that cannot be jobs the first are listed",
            "detached.py",
            "refused[: MOST_REFUSED - len(self._listed)]",
            "refused",
            *(FAN_OUT, "-k", "cannot_be_jobs"),
        ),
        _guard(
            "all inputs that cannot be jobs are counted",
            "detached.py",
            "refused=self._refused,",
            "",
            *(FAN_OUT, "-k", "cannot_be_jobs"),
        ),
        _guard(
            "fan-outs of this process are told of",
            "detached.py",
            "                self._fan_outs.on_started(self.id)\n",
            "",
            STEERING_OPTIONS,
        ),
        _guard(
            "those that are waited for are told of too",
            "children.py",
            "            self._fan_outs.on_started(self.id)\n",
            "            pass\n",
            STEERING_OPTIONS,
        ),
        _guard(
            "one of which nobody could be told is not left open",
            "children.py",
            "on_started(self.id)\n        except BaseException:\n            self._abandon()\n",
            "on_started(self.id)\n        except BaseException:\n",
            TOLD_IN_VAIN,
        ),
        _bar("parts of children count", "status.failed + parts)", "status.failed)"),
        _bar("a child has no more parts than it has", "min(1.0, max(0.0, part))", "part"),
        _bar("a bar is full in the end", "min(0.99, parts / status.total)", "parts / status.total"),
        _bar("no bar without a length", "if status.sealed and status.total else", "if status.total else"),
        _bar("the first moments are a guess", "None if seconds < SOON else", "None if not seconds else"),
        _bar(
            "what was done before is no pace",
            "max(0.0, after - before) / seconds",
            "max(0.0, after) / seconds",
        ),
        _bar(
            "a child that begins anew is no pace",
            "max(0.0, after - before) / seconds",
            "(after - before) / seconds",
        ),
        _bar("few looks are kept", "            self._seen.popleft()\n", "            break\n"),
        _bar(
            "the pace is of the last seconds",
            "max((one for one in self._seen if one[0] <= now - WINDOW), default=self._seen[0])",
            "self._seen[0]",
        ),
        _bar(
            "a record that goes keeps its last look",
            "        if status.known:\n            self.status",
            "        if True:\n            self.status",
        ),
        _bar("a child that is waited for leaves none", "or not is_attached(self._id))", "or True)"),
        _bar("cancelled children did not fail", "status.failed - status.cancelled,", "status.failed,"),
        _bar(
            "one that is cut short is trouble",
            ", cut_short(self.status))",
            ', "")',
        ),
        _bar(
            "one that was cancelled was not left",
            '    if status.is_cancelled:\n        return "cancelled, and',
            '    if False:\n        return "cancelled, and',
        ),
        _bar(
            "nobody is blamed before time",
            "    if idle < LONG or",
            "    if idle < 0 or",
        ),
        _bar(
            "while children end nobody is idle",
            "now if self._since is None or ended != self._ended else",
            "now if self._since is None else",
        ),
        _bar("while children run nobody is idle", "not status.running and ended", "ended"),
        _bar("bars of one name are told apart", "if names[picture.name] > 1 else", "if False else"),
        _bar(
            "what was not seen has no pace",
            "self._seen[-1]) if self._first else None) or None",
            "self._seen[-1]) if self._first else None)",
        ),
        Guard(
            "numbers are whole on narrow terminals",
            "cli/bars.py",
            "            widths.pop(name, None)\n",
            "            pass\n",
            (CLI_BARS,),
        ),
        _bar(
            "the newest bars stay",
            "places[len(places) - number :]",
            "places[:number]",
        ),
        _bar(
            "terminals obey no names",
            """return "".join(one if one.isprintable() else "?" for one in text)""",
            "return text",
        ),
        Guard(
            "bars are for terminals",
            "cli/follow.py",
            "    if not sys.stderr.isatty():\n",
            "    if False:\n",
            (FAN_OUT_COMMAND, "-k", "without_a_terminal"),
        ),
        Guard(
            "failures are the exit code",
            "cli/fan_out.py",
            'return _complain(f"Fan-out {asked.id}: {watched.trouble}")',
            "return 0",
            (FAN_OUT_COMMAND, "-k", "failures_are_told"),
        ),
        _guard(
            "what is registered is told to those who watch",
            "register.lua",
            "record.has_moved = true\n",
            "",
            TOLD_OF_MOVES,
        ),
        _guard(
            "what is registered is told at once",
            "register.lua",
            "record.has_moved = true\ntell_all(keys, {[id] = true})\n",
            "record.has_moved = true\n",
            TOLD_OF_MOVES,
        ),
        _guard(
            "what starts is told to those who watch",
            "started.lua",
            "  record.has_moved = true\n",
            "",
            TOLD_OF_MOVES,
        ),
        _guard(
            "what is put off is told to those who watch",
            "put_off.lua",
            "  record.has_moved = true\n",
            "",
            TOLD_OF_MOVES,
        ),
        _guard(
            "what a child says is told to those who watch",
            "note.lua",
            "  record.has_moved = true\n",
            "",
            TOLD_OF_MOVES,
        ),
        _guard(
            "what went back is told to those who watch",
            "../work/put_back.lua",
            "    if id then clear_started(keys, id, index, touched) end\n",
            "    if id then clear_started(keys, id, index, {}) end\n",
            STEERED_RECORDS,
        ),
        _guard(
            "the owner is told of ends only",
            "news.lua",
            "    if not is_owner or record.has_news then redis.call('SREM', watchers, inbox) end\n",
            "    redis.call('SREM', watchers, inbox)\n",
            *(PACES, "-k", "only_starts"),
        ),
    ),
)
