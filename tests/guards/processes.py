"""A process obeys, and shares what it shares: signals, deadlines, threads and the embedded server."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import BLOCKED, EMBEDDED, EXECUTOR, OPERATING, POOL, PROBES, SHARING, SIGNALS

PROCESSES = Promise(
    "A process obeys, and shares what it shares",
    (
        Guard(
            "a quiet process takes nothing",
            "work/shift.py",
            " and not self._crew.quiet.on",
            "",
            (OPERATING, "-k", "quiet_process_takes"),
        ),
        Guard(
            "jobs are taken again after quiet",
            "work/lookout.py",
            "            await self._quiet.ended()\n            self.look_again()\n",
            "            await self._quiet.ended()\n",
            (POOL, "-k", "quietly"),
        ),
        Guard(
            "SIGCONT after SIGTERM takes nothing",
            "signals.py",
            "        elif self._draining:\n            return  #",
            "        elif False:\n            return  #",
            (OPERATING, "-k", "sigcont_after"),
        ),
        Guard(
            "a server that drains is not ready",
            "web/app.py",
            '"the server is shutting down" if draining else self._ready()',
            "self._ready()",
            (PROBES,),
        ),
        Guard(
            "draining starts no job",
            "work/shift.py",
            "self._lookout.hungry and not self._stopping and",
            "self._lookout.hungry and",
            (POOL, "-k", "draining"),
        ),
        Guard(
            "a second signal ends it",
            "signals.py",
            "        self._server.cancel()\n",
            "        pass\n",
            (SIGNALS, "-k", "second_signal"),
        ),
        Guard(
            "a job has a deadline",
            "work/slot.py",
            '                    slot.stop("overdue")\n',
            "                    pass\n",
            (POOL, "-k", "takes_too_long"),
        ),
        Guard(
            "jobs and other callers have threads of their own",
            "executor.py",
            'return self._job_threads if connection.kind == "task" else self._threads',
            "return self._threads",
            (EXECUTOR, "-k", "threads_of_their_own"),
        ),
        Guard(
            "of several that block the loop none is blamed",
            "blocked.py",
            "new.several = old.several or old.task != new.task",
            "new.several = False",
            (BLOCKED, "-k", "several"),
        ),
        Guard(
            "a process that stood still has not blocked",
            "blocked.py",
            "        return now - self._looked_at  # perhaps",
            "        return 0.0  # perhaps",
            (BLOCKED, "-k", "stood_still"),
        ),
        Guard(
            "a server has an exclusive lock",
            "redis/embedded.py",
            "lock = server_lock.take(self._folder.server_lock, shared=False)",
            "lock = server_lock.take(self._folder.server_lock, shared=True)",
            (SHARING,),
        ),
        Guard(
            "the last one stops the server",
            "redis/embedded.py",
            "                await self._stop(last)\n",
            "                pass\n",
            (SHARING,),
        ),
        Guard(
            "the server ends when its users are killed",
            "redis/server_watchdog.py",
            "    _thread.start_new_thread(_stop_when_unused, (users, server))\n",
            "",
            (SHARING, "-k", "all_its_users"),
        ),
        Guard(
            "a terminate to everything leaves the watchdog",
            "redis/server_watchdog.py",
            "        signal.signal(ignored, signal.SIG_IGN)\n",
            "        pass\n",
            (SHARING, "-k", "terminates_a_watchdog"),
        ),
        Guard(
            "a server that dies is started again",
            "redis/embedded.py",
            "                nursery.start_soon(user.keep_alive)\n",
            "",
            (EMBEDDED, "-k", "killed_server"),
        ),
        Guard(
            "every write is in the append-only file",
            "redis/embedded.py",
            '        "appendonly": "yes",\n',
            '        "appendonly": "no",\n',
            (EMBEDDED,),
        ),
        Guard(
            "the embedded server is private",
            "redis/embedded.py",
            '        "unixsocketperm": "700",\n',
            '        "unixsocketperm": "777",\n',
            (EMBEDDED,),
        ),
    ),
)
