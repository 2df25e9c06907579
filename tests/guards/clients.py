"""No client harms the server or another client: the limits and refusals of the web edge."""

from __future__ import annotations

from guards.mutation import Guard, Promise
from guards.suites import EVENTS_STREAM, FUZZ_HTTP, FUZZ_WEBSOCKET, HTTP, METRICS, WEBSOCKET

CLIENTS = Promise(
    "No client harms the server or another client",
    (
        Guard(
            "a client that leaves while nobody reads",
            "web/protocol.py",
            "            nursery.start_soon(self._read_ahead)\n",
            "            pass\n",
            (FUZZ_HTTP, "-k", "leave_at_any"),
        ),
        Guard(
            "compression of messages is not agreed on",
            "web/protocol.py",
            "if pair[0] != _DEFLATE],",
            "],",
            (FUZZ_WEBSOCKET, "-k", "compression"),
        ),
        Guard(
            "values of one body",
            "web/codec.py",
            "        _refuse_many_values(body, max_values)\n",
            "",
            (FUZZ_HTTP, "-k", "many"),
        ),
        Guard(
            "frames before the handshake is answered",
            "web/protocol.py",
            "            if event.data:  #",
            "            if False:  #",
            (FUZZ_WEBSOCKET, "-k", "handshake_that_takes_long"),
        ),
        Guard(
            "an HTTP/2 client that opens no window",
            "web/protocol.py",
            "                self._line.drop()\n                return\n            left",
            "                return\n            left",
            (FUZZ_HTTP, "-k", "opens_no_window"),
        ),
        Guard(
            "connections over the limit",
            "web/serve.py",
            "if len(connections.child_tasks) > settings.max_connections:",
            "if False:",
            (FUZZ_HTTP, "-k", "over_the_limit_are_told"),
        ),
        Guard(
            "a flood of priorities",
            "web/protocol.py",
            (
                '        """Clients may say what is urgent; HTTP/2 has given that up, and its '
                'book-keeping can be flooded."""'
            ),
            "        await super()._priority_updated(event)",
            (FUZZ_HTTP, "-k", "flood_of_http2"),
        ),
        Guard(
            "a body that does not come",
            "web/app.py",
            "            with trio.move_on_after(seconds):\n",
            "            with trio.move_on_after(1e9):\n",
            (HTTP, "-k", "does_not_come"),
        ),
        Guard(
            "a body over the limit",
            "web/app.py",
            '        self.config["MAX_CONTENT_LENGTH"] = settings.max_body\n',
            "",
            (HTTP, "-k", "over_the_limit"),
        ),
        Guard(
            "calls of one socket",
            "web/websocket.py",
            "        elif self._running >= self._max_calls:\n",
            "        elif False:\n",
            (WEBSOCKET, "-k", "over_the_limit"),
        ),
        Guard(
            "forms on foreign pages",
            "web/app.py",
            (
                "        if request.method not in SAFE_METHODS:\n"
                "            refuse_foreign_origin(headers, self._settings.allowed_origins)\n"
            ),
            "",
            (HTTP, "-k", "foreign"),
        ),
        Guard(
            "websockets of foreign pages",
            "web/app.py",
            (
                "        refuse_foreign_origin(headers, self._settings.allowed_origins)\n"
                "\n"
                "    async def _answer"
            ),
            "\n    async def _answer",
            (WEBSOCKET, "-k", "other_hosts"),
        ),
        Guard(
            "names that are not ours",
            "web/app.py",
            ('        refuse_foreign_host(headers.get("host", ""), self._hosts)\n        if path == METRICS'),
            "        if path == METRICS",
            (FUZZ_HTTP, "-k", "allowed_hosts"),
        ),
        Guard(
            "websockets by names that are not ours",
            "web/app.py",
            (
                '        refuse_foreign_host(headers.get("host", ""), self._hosts)\n'
                "        refuse_foreign_origin"
            ),
            "        refuse_foreign_origin",
            (WEBSOCKET, "-k", "other_names"),
        ),
        Guard(
            "event streams over the limit",
            "web/streams.py",
            "        if len(self._open) >= self._most:\n",
            "        if False:\n",
            (EVENTS_STREAM, "-k", "over_the_limit"),
        ),
        Guard(
            "the place of a client that has gone",
            "web/streams.py",
            "            self._open.discard(stream)\n",
            "            pass\n",
            (EVENTS_STREAM, "-k", "leaves_nothing"),
        ),
        Guard(
            "event streams when the server drains",
            "web/serve.py",
            "            streams.end()\n",
            "            pass\n",
            (EVENTS_STREAM, "-k", "draining"),
        ),
        Guard(
            "browsers that have seen the end stay away",
            "web/streams.py",
            '        if headers.get("last-event-id") == LAST:\n',
            "        if False:\n",
            (EVENTS_STREAM, "-k", "seen_the_end"),
        ),
        Guard(
            "who may read the metrics",
            "web/scrapers.py",
            "or not self._has(address):",
            "or False:",
            (METRICS, "-k", "other_clients"),
        ),
    ),
)
