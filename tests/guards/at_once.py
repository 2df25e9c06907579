"""Speed that costs nothing else: what goes out at once, the exchange as a function, rings that wait."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import APPETITE, DOORBELL, EMPTIED, LINE, RESIDENT, RINGS, TRANSPORT, TRANSPORT_FAULTS

AT_ONCE = Promise(
    "What is fast is right, too",
    (
        Guard(
            "nothing goes out at once for who was cancelled",
            "redis/transport.py",
            "await trio.lowlevel.checkpoint_if_cancelled()",
            "pass",
            (TRANSPORT,),
        ),
        Guard(
            "what the socket does not take at once goes out later",
            "redis/link.py",
            "        if taken < len(request.data):\n",
            "        if False:\n",
            (TRANSPORT,),
        ),
        Guard(
            "a connection that is given up gets nothing at once",
            "redis/link.py",
            " and not self.trouble\n",
            "\n",
            (TRANSPORT,),
        ),
        Guard(
            "a connection that breaks while a command goes out at once is given up",
            "redis/link.py",
            "        except OSError as error:\n            self._drop(",
            "        except ZeroDivisionError as error:\n            self._drop(",
            (TRANSPORT, TRANSPORT_FAULTS),
        ),
        Guard(
            "a socket without room takes nothing",
            "redis/line.py",
            "        except BlockingIOError:\n            return 0\n",
            "        except ZeroDivisionError:\n            return 0\n",
            (LINE,),
        ),
        Guard(
            "a function that is missing is loaded",
            "redis/resident.py",
            'if str(error) != "Function not found":',
            "if True:",
            (RESIDENT,),
        ),
        Guard(
            "who may not use functions does without",
            "redis/resident.py",
            'if isinstance(error, NoPermissionError) or str(error).startswith("unknown command"):',
            "if False:",
            (RESIDENT,),
        ),
        Guard(
            "a full server that takes no function runs the script",
            "redis/resident.py",
            "        except ResponseError:  # a full server takes none, for one\n",
            "        except ZeroDivisionError:\n",
            (RESIDENT,),
        ),
        Guard(
            "a full server runs the function",
            "redis/resident.py",
            "flags = {{'allow-oom'}}",
            "flags = {{}}",
            (RESIDENT,),
        ),
        Guard(
            "an older version that still runs takes away no newer one's function",
            "redis/resident.py",
            "        if self._is_tidy:\n            return\n",
            "",
            (RESIDENT,),
        ),
        Guard(
            "no helper remembers another run's records",
            "fanout/record.lua",
            "    keys.seen[id] = record\n",
            "    DIGITS[id] = record\n",
            (RESIDENT,),
        ),
        Guard(
            "a queue that another has emptied is not looked at now",
            "work/rings.py",
            "return due if self._open is None or self._open else now + random.uniform(*LATER)",
            "return min(due, now)",
            (RINGS,),
        ),
        Guard(
            "a queue that another has emptied is looked at later all the same",
            "work/rings.py",
            "self._open is None or self._open else now + random.uniform(*LATER)",
            "self._open is None or self._open else float('inf')",
            (RINGS,),
        ),
        Guard(
            "who has emptied a queue looks again at once",
            "work/rings.py",
            " if not text.startswith(self._own)}",
            "}",
            (RINGS,),
        ),
        Guard(
            "another queue is not forgotten",
            "work/rings.py",
            "self._open = (self._open - emptied) | opened",
            "self._open = opened",
            (RINGS,),
        ),
        Guard(
            "a queue with jobs is not said to be empty",
            "work/pop.lua",
            "cycle.took[queue], cycle.emptied[queue] = true, #raws < wished",
            "cycle.took[queue], cycle.emptied[queue] = true, true",
            (EMPTIED,),
        ),
        Guard(
            "a ring that was put off in the last moment wakes nobody",
            "redis/doorbell.py",
            "if now >= min(self._due, self._safety_at):",
            "if True:",
            (DOORBELL,),
        ),
        Guard(
            "who finds nothing stands back",
            "work/appetite.py",
            "        elif not self._own_echo:\n",
            "        elif False:\n",
            (APPETITE,),
        ),
    ),
)
