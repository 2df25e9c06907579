"""Websockets from clients without manners: frames and messages of every shape."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polling import until
from web.rude import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INTERNALS,
    PING,
    TEXT,
    UPGRADE,
    Frames,
    assert_harmless,
    exchange,
    frame,
    replies_of,
    reset,
    send_until_dropped,
    unharmed,
    upgraded,
)
from web.server import Gate, Server, open_connections, serving

from trioaction.web.websocket import Conversation

CALL = b'{"messageType":"action","action":"add","messageId":1,"params":{"a":1}}'
ANSWER = (0x81, b'{"messageId":1,"response":1}')
PROTOCOL_ERROR = (0x88, struct.pack("!H", 1002))
BYE = struct.pack("!H", 1000)


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with serving(request_timeout=0.3, keep_alive=0.3) as server:
        yield server


async def conversation(server: Server, sent: bytes) -> list[tuple[int, bytes]]:
    """The server's frames until it closes, or until it has answered the ping that we send last."""
    found: list[tuple[int, bytes]] = []
    stream, _ = await upgraded(server)
    with trio.fail_after(10):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(sent + frame(b"last", PING))
        async for each in Frames(stream):
            if each == (0x8A, b"last"):
                break
            found.append(each)
    await stream.aclose()
    return found


BROKEN = {
    "unmasked": frame(CALL, masked=False),
    "reserved bit 1, which compression uses": frame(CALL, rsv=4),
    "reserved bit 2": frame(CALL, rsv=2),
    "reserved bit 3": frame(CALL, rsv=1),
    **{f"reserved opcode {opcode}": frame(CALL, opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "text that is not utf-8": frame(b"\xff"),
    "text that ends in the middle of a character": frame(b"\xc3"),
    "continuation of nothing": frame(CALL, CONTINUATION),
    "a message within a message": frame(CALL[:5], fin=False) + frame(CALL),
    "a ping in pieces": frame(b"x", PING, fin=False),
    "a ping of 126 bytes": frame(b"x" * 126, PING),
    "a close of 126 bytes": frame(BYE + b"x" * 124, CLOSE),
    "a close of one byte": frame(b"\x03", CLOSE),
    "a close with code 0": frame(bytes(2), CLOSE),
    "a close with code 1005": frame(struct.pack("!H", 1005), CLOSE),
    "a close with code 65535": frame(b"\xff\xff", CLOSE),
    "a close whose reason is not utf-8": frame(BYE + b"\xff", CLOSE),
    "a length above 2 to the 63": b"\x81\xff" + b"\xff" * 8 + bytes(4),
    "a length that is written too long": b"\x81\xfe\x00\x05" + bytes(4) + b"hello",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=list(BROKEN))
async def test_a_broken_frame_closes_the_socket_with_a_code(server: Server, sent: bytes) -> None:
    async with unharmed(server):
        assert await conversation(server, sent) == [PROTOCOL_ERROR]


WHOLE = {
    "in one frame": frame(CALL),
    "binary": frame(CALL, BINARY),
    "in two frames": frame(CALL[:9], fin=False) + frame(CALL[9:], CONTINUATION),
    "byte by byte": b"".join(
        frame(CALL[at : at + 1], CONTINUATION if at else TEXT, fin=at + 1 == len(CALL))
        for at in range(len(CALL))
    ),
    "with a thousand empty frames": frame(b"", fin=False)
    + frame(b"", CONTINUATION, fin=False) * 1000
    + frame(CALL, CONTINUATION),
    "after pongs that nobody asked for": frame(b"x" * 125, 10) * 100 + frame(CALL),
}


@pytest.mark.parametrize("sent", WHOLE.values(), ids=list(WHOLE))
async def test_a_message_may_come_in_any_pieces(server: Server, sent: bytes) -> None:
    async with unharmed(server):
        stream, _ = await upgraded(server)
        await stream.send_all(sent)
        with trio.fail_after(10):
            assert await anext(Frames(stream)) == ANSWER
        await stream.aclose()


async def test_control_frames_may_come_within_a_message(server: Server) -> None:
    async with unharmed(server):
        got = await conversation(server, frame(CALL[:9], fin=False) + frame(b"hi", PING) + frame(CALL[9:], 0))
        assert got[0] == (0x8A, b"hi")


async def test_messages_over_the_limit_close_the_socket_however_they_come() -> None:
    big = b" " * 600

    async def one(sent: bytes) -> None:
        assert (0x88, struct.pack("!H", 1009)) in await conversation(server, sent)

    async with (
        serving(websocket_max_message=1000) as server,
        unharmed(server),
        trio.open_nursery() as nursery,
    ):
        for sent in (
            frame(big * 2),
            frame(big, fin=False) + frame(big, CONTINUATION),
            frame(big, fin=False) + frame(big, CONTINUATION, fin=False),
            frame(b"x" * 2000, BINARY, claim=1_000_000_000),
        ):
            nursery.start_soon(one, sent)


async def test_what_comes_after_a_close_is_ignored(server: Server) -> None:
    async with unharmed(server):
        assert await conversation(server, frame(BYE, CLOSE) + frame(CALL) * 10) == [(0x88, BYE)]
        assert await conversation(server, frame(b"", CLOSE) + b"\xff" * 100) == [(0x88, b"")]


async def test_compression_is_not_agreed_on_so_that_no_bomb_goes_off(server: Server) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(50_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    async with unharmed(server):
        for offer in (
            b"permessage-deflate",
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; client_max_window_bits=x",
            b";;=,",
        ):
            stream, answer = await upgraded(server, b"Sec-WebSocket-Extensions: " + offer + b"\r\n")
            assert b"extensions" not in answer.lower()
            await stream.send_all(frame(bomb[:60_000], rsv=4))
            with trio.fail_after(10):
                assert [each async for each in Frames(stream)] == [PROTOCOL_ERROR]
            await stream.aclose()


HANDSHAKES = {
    "no key": UPGRADE.replace(b"Sec-WebSocket-Key", b"X") % b"",
    "no version": UPGRADE.replace(b"Sec-WebSocket-Version", b"X") % b"",
    "version 14": UPGRADE.replace(b"13", b"14") % b"",
    "http/1.0": UPGRADE.replace(b"1.1", b"1.0") % b"",
    "a protocol that is not ascii": UPGRADE % b"Sec-WebSocket-Protocol: \xff\r\n",
    "an odd space in Connection": UPGRADE.replace(b": Upgrade", b": Upgrade\xa0") % b"",
    "an odd space in Upgrade": UPGRADE.replace(b": websocket", b": websocket\x85") % b"",
    "a body": UPGRADE % b"Content-Length: 2\r\n" + b"hi",
    "chunks": UPGRADE % b"Transfer-Encoding: chunked\r\n" + b"0\r\n\r\n",
    "frames too early": UPGRADE % b"" + frame(CALL),
    "junk too early": UPGRADE % b"" + b"\xff" * 1000,
    "a foreign page": UPGRADE % b"Origin: http://evil.example\r\n",
    "a foreign host": (UPGRADE % b"").replace(b"localhost", b"evil.example"),
    "another path": (UPGRADE % b"").replace(b"/ws", b"/%ff"),
    "a path that is a url": (UPGRADE % b"").replace(b"/ws", b"http://[x"),
}


@pytest.mark.parametrize("sent", HANDSHAKES.values(), ids=list(HANDSHAKES))
async def test_a_bad_handshake_is_told_why_and_its_connection_ends(server: Server, sent: bytes) -> None:
    async with unharmed(server):
        (reply,) = replies_of(await exchange(server, sent))
        assert reply.status in (400, 403, 404, 421)
        assert_harmless(reply, sent=sent)


async def test_frames_that_come_while_the_handshake_is_answered_end_the_connection(server: Server) -> None:
    async with unharmed(server):
        for pause in (0, 0, 0.001, 0.002, 0.003) * 3:
            stream = await server.connect()
            await stream.send_all(UPGRADE % b"")
            await trio.sleep(pause)
            await send_until_dropped(stream, frame(BYE, CLOSE))


async def test_a_handshake_that_takes_long_lets_no_frame_pass(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Conversation.run

    async def late(conversation: Conversation) -> None:
        await trio.sleep(0.1)
        await answering(conversation)

    monkeypatch.setattr(Conversation, "run", late)
    async with unharmed(server):
        stream = await server.connect()
        await stream.send_all(UPGRADE % b"")
        await trio.sleep(0.03)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(frame(BYE, CLOSE))
            assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_broken_frame_beside_replies_is_no_fault_of_ours(server: Server) -> None:
    async with unharmed(server), trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(conversation, server, frame(CALL) * number + frame(b"", 3))


@pytest.mark.parametrize("leave", ["close", "reset", "half-close", "close frame", "broken frame"])
async def test_a_client_may_leave_in_the_middle_of_calls(leave: str) -> None:
    gate = Gate()
    wait = b'{"messageType":"action","action":"wait","messageId":1}'
    async with serving(gate.action, websocket_max_calls=5) as server, unharmed(server):
        stream, _ = await upgraded(server)
        await stream.send_all(frame(wait) * 50)
        await until(lambda: gate.running == 5)
        if leave == "half-close":
            await stream.send_eof()
        elif leave == "close frame":
            await stream.send_all(frame(BYE, CLOSE))
        elif leave == "broken frame":
            await stream.send_all(frame(b"", 3))
        elif leave == "reset":
            reset(stream)
        else:
            await stream.aclose()
        await until(lambda: gate.running == 0 and open_connections() == 0)
        assert gate.most == 5
        stream.socket.close()


@pytest.mark.parametrize("sent", [frame(b"x" * 125, PING), frame(b"{")], ids=["pings", "junk"])
async def test_a_client_that_sends_and_does_not_read_is_dropped(server: Server, sent: bytes) -> None:
    async with unharmed(server):
        stream, _ = await upgraded(server)
        await send_until_dropped(stream, sent * (20_000 // len(sent)))


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["add", "echo", "crash", "refuse", "unsendable", "nothing", "no:such", "", "whoami"])
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "messageType": st.just("action") | VALUES,
        "messageId": SCALARS | VALUES,
        "action": NAMES | VALUES,
        "params": st.dictionaries(st.sampled_from(["a", "b", "id", "tags", "_attempt"]), VALUES) | VALUES,
    },
)


def id_of(sent: Any) -> Any:
    """The id that the answer must have."""
    found = sent.get("messageId") if isinstance(sent, dict) else None
    return None if isinstance(found, dict | list) else found


@settings(max_examples=6, phases=(Phase.generate,))
@given(messages=st.lists(MESSAGES | VALUES, min_size=20, max_size=60))
async def test_any_message_gets_one_answer_with_its_id(messages: list[Any]) -> None:
    async with serving() as server, unharmed(server):
        stream, _ = await upgraded(server)
        await stream.send_all(b"".join(frame(json.dumps(each).encode()) for each in messages))
        answers: list[Any] = []
        with trio.fail_after(20):
            async for first, payload in Frames(stream):
                assert first == 0x81
                answers.append(json.loads(payload))
                if len(answers) == len(messages):
                    break
        await stream.aclose()
    for answer in answers:
        assert set(answer) in ({"messageId", "response"}, {"messageId", "error"})
        if "error" in answer:
            assert not any(word in answer["error"]["message"] for word in INTERNALS), answer
    key = json.dumps
    assert sorted(key(each["messageId"]) for each in answers) == sorted(key(id_of(each)) for each in messages)


PAYLOADS = st.sampled_from([CALL, CALL[:20], CALL[20:], b"", BYE, b"\x03", b"{}", b"\xff"]) | st.binary(
    max_size=200
)
FRAMES = st.builds(
    frame,
    PAYLOADS,
    st.sampled_from([0, 1, 2, 8, 9, 10]) | st.integers(0, 15),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 4, 7]),
    masked=st.sampled_from([True, True, True, False]),
    claim=st.none() | st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 2**32, 2**63 - 1]),
)


@settings(max_examples=6, phases=(Phase.generate,))
@given(cases=st.lists(st.lists(FRAMES | st.binary(max_size=50), max_size=8), min_size=20, max_size=40))
async def test_any_frames_do_no_harm_and_leave_nothing(cases: list[list[bytes]]) -> None:
    async def one(number: int, frames: list[bytes]) -> None:
        stream, _ = await upgraded(server)
        try:
            for each in frames:
                await stream.send_all(each)
        except trio.BrokenResourceError:
            pass
        if number % 2:
            reset(stream)
        await stream.aclose()

    async with serving() as server, unharmed(server), trio.open_nursery() as nursery:
        for number, frames in enumerate(cases):
            nursery.start_soon(one, number, frames)
