"""The transport against a real server: replies, errors, cancellation, connecting, keeping alive."""

from __future__ import annotations

import ssl
import subprocess
from functools import partial
from pathlib import Path

import pytest
import redis.exceptions
import trio
from faultproxy import Plan, open_fault_proxy
from polling import until
from private_server import open_private_server
from trio.testing import wait_all_tasks_blocked

from trioaction.errors import ConfigError, EmbeddedServerError, RedisUnavailable
from trioaction.redis import backlog
from trioaction.redis.handshake import Handshake
from trioaction.redis.transport import ConnectionLost, Transport, open_transport


async def test_replies_are_raw_and_the_servers_errors_are_raised(redis_url: str, namespace: str) -> None:
    async with open_transport(redis_url, name="t") as transport:
        assert await transport.call("SET", f"{namespace}:a", 1.5) == b"OK"
        assert await transport.call(b"GET", f"{namespace}:a") == b"1.5"
        assert await transport.call("GET", f"{namespace}:none") is None
        assert await transport.call("HSET", f"{namespace}:h", "f", "v") == 1
        assert await transport.call("HGETALL", f"{namespace}:h") == {b"f": b"v"}
        with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
            await transport.call("INCR", f"{namespace}:h")
        with pytest.raises(redis.exceptions.NoScriptError):
            await transport.call("EVALSHA", "0" * 40, 0)


async def test_a_pipeline_raises_its_first_error_after_all_commands_ran(
    redis_url: str, namespace: str
) -> None:
    key = f"{namespace}:n"
    async with open_transport(redis_url, name="t") as transport:
        commands = [("INCR", key), ("LPUSH", key, "x"), ("INCR", key)]
        with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
            await transport.pipeline(commands)
        assert await transport.call("GET", key) == b"2"
        first, second, third = await transport.replies(commands)
        assert (first, third) == (3, 4)
        assert isinstance(second, redis.exceptions.ResponseError)
        only = await transport.replies([("LPUSH", key, "x")])
        assert isinstance(only[0], redis.exceptions.ResponseError)
        assert await transport.pipeline([]) == []


async def test_an_argument_that_redis_cannot_take_is_named_and_nothing_is_sent(redis_url: str) -> None:
    async with open_transport(redis_url, name="t") as transport:
        with pytest.raises(redis.exceptions.DataError, match="NoneType"):
            await transport.call("SET", "a", None)  # type: ignore[arg-type]
        assert await transport.call("ECHO", "still in order") == b"still in order"


async def test_many_tasks_each_get_their_own_reply(redis_url: str) -> None:
    async with open_transport(redis_url, name="t") as transport:

        async def ask(number: int) -> None:
            for turn in range(20):
                text = f"{number}:{turn}"
                assert await transport.call("ECHO", text) == text.encode()

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)


async def test_a_large_value_goes_there_and_back(redis_url: str, namespace: str) -> None:
    value = b"\r\n*1" * 1_500_000
    async with open_transport(redis_url, name="t") as transport:
        await transport.call("SET", f"{namespace}:large", value)
        assert await transport.call("GET", f"{namespace}:large") == value
        await transport.call("DEL", f"{namespace}:large")


async def test_a_call_cancelled_before_it_was_sent_is_never_sent(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    async with open_transport(redis_url, name="t") as transport:
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.call("INCR", key)
        assert scope.cancelled_caught
        assert await transport.call("GET", key) is None


async def test_a_connection_that_is_being_given_up_gets_no_more_commands(
    redis_url: str, namespace: str
) -> None:
    key = f"{namespace}:n"
    async with open_transport(redis_url, name="t", max_backoff=0.01) as transport:
        link = transport._link
        assert link is not None
        link._drop("it is of no use any more")
        assert await transport.call("INCR", key) == 1  # by the next one, and without a doubt
        assert transport.generation == 2


async def test_a_connection_that_breaks_as_a_command_goes_out_is_replaced(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_data: bytes) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    async with open_transport(redis_url, name="t", max_backoff=0.01) as transport:
        assert transport._link is not None
        monkeypatch.setattr(transport._link._line, "send_now", broken)
        with pytest.raises(ConnectionLost, match="Broken pipe") as caught:
            await transport.call("INCR", f"{namespace}:n")
        assert caught.value.maybe_ran
        assert await transport.call("INCR", f"{namespace}:n") == 1
        assert transport.generation == 2


async def test_a_call_cancelled_while_disconnected_is_not_sent_later(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.01) as transport,
    ):
        proxy.refusing = True
        proxy.cut_all()
        await _until_lost(transport)
        with trio.move_on_after(0.02) as scope:
            await transport.call("INCR", key, retry=True)
        assert scope.cancelled_caught
        proxy.refusing = False
        await transport.wait_connected()
        assert await transport.call("GET", key) is None


async def test_the_setup_runs_on_every_connection_before_other_traffic(
    redis_url: str, namespace: str
) -> None:
    seen: list[bytes] = []

    async def setup(shake: Handshake) -> None:
        seen.append(await shake.call("CLIENT", "GETNAME"))
        await shake.call("RPUSH", f"{namespace}:log", "setup")

    async with open_transport(redis_url, name="worker-7", setup=setup, max_backoff=0.01) as transport:
        assert transport.generation == 1
        await transport.call("RPUSH", f"{namespace}:log", "call")
        own = await transport.call("CLIENT", "ID")
        async with open_transport(redis_url, name="other") as other:
            await other.call("CLIENT", "KILL", "ID", own)
        await transport.call("LLEN", f"{namespace}:log", retry=True)
        await until(lambda: transport.generation == 2)
        await transport.call("RPUSH", f"{namespace}:log", "call", retry=True)
        log = await transport.call("LRANGE", f"{namespace}:log", 0, -1)
    assert log == [b"setup", b"call", b"setup", b"call"]
    assert seen == [b"worker-7", b"worker-7"]


async def test_a_failing_setup_is_a_failure_to_connect(redis_url: str) -> None:
    async def setup(shake: Handshake) -> None:
        await shake.call("CLIENT", "NONSENSE")

    with pytest.raises(ConnectionLost, match="NONSENSE"):
        async with open_transport(redis_url, name="t", setup=setup):
            pass


async def test_push_messages_reach_their_owner_and_no_caller(redis_url: str, namespace: str) -> None:
    pushes: list[list[object]] = []
    async with open_transport(redis_url, name="t", on_push=pushes.append) as transport:
        await transport.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", namespace)
        assert await transport.pipeline([("SET", f"{namespace}:a", 1), ("ECHO", "x")]) == [b"OK", b"x"]
        await until(lambda: bool(pushes))
    assert pushes == [[b"invalidate", [f"{namespace}:a".encode()]]]


async def test_the_database_of_the_url_is_selected(redis_url: str, namespace: str) -> None:
    async with (
        open_transport(f"{redis_url}?db=3", name="t") as third,
        open_transport(redis_url, name="t") as first,
    ):
        await third.call("SET", namespace, "x")
        assert await first.call("EXISTS", namespace) == 0
        await third.call("DEL", namespace)


async def test_a_refused_first_connection_is_raised_at_once_and_names_the_address() -> None:
    with pytest.raises(ConnectionLost) as caught:
        async with open_transport("redis://me:hunter2@127.0.0.1:1/4", name="t"):
            pass
    assert "redis://me:***@127.0.0.1:1/4" in str(caught.value)
    assert "refused" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not caught.value.maybe_ran
    assert isinstance(caught.value, RedisUnavailable)
    assert isinstance(caught.value, redis.exceptions.ConnectionError)


async def test_a_server_of_another_kind_is_told_from_a_redis() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with pytest.raises(ConnectionLost, match="does not speak the Redis protocol"):
            async with open_transport(f"redis://127.0.0.1:{port}", name="t"):
                pass
        nursery.cancel_scope.cancel()


async def test_passwords(valkey_binary: Path) -> None:
    async with open_private_server(valkey_binary, "--requirepass", "right") as server:
        socket = server.url.removeprefix("unix://")
        async with open_transport(f"unix://:right@{socket}", name="t") as transport:
            assert await transport.call("PING") == b"PONG"
        with pytest.raises(ConnectionLost, match="refused the user name or password"):
            async with open_transport(f"unix://:wrong@{socket}", name="t"):
                pass
        with pytest.raises(ConnectionLost, match="wants a password"):
            async with open_transport(server.url, name="t"):
                pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that no authority has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *names], check=True, capture_output=True)
    return certificate, key


async def test_tls_trusts_the_authority_that_the_url_names_and_no_other(
    redis_url: str, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with open_fault_proxy(redis_url, tls=context) as proxy:
        async with open_transport(f"{proxy.url}?ssl_ca_certs={certificate[0]}", name="t") as transport:
            assert await transport.call("ECHO", "x" * 1_000_000) == b"x" * 1_000_000
        with pytest.raises(ConnectionLost, match="certificate"):
            async with open_transport(proxy.url, name="t"):
                pass


async def test_a_server_without_hello_is_spoken_to_in_resp2(valkey_binary: Path) -> None:
    options = ("--rename-command", "HELLO", "", "--requirepass", "right")
    async with open_private_server(valkey_binary, *options) as server:
        socket = server.url.removeprefix("unix://")
        async with open_transport(f"unix://:right@{socket}?db=2", name="old") as transport:
            assert not transport.resp3
            assert await transport.call("CLIENT", "GETNAME") == b"old"
            await transport.call("HSET", "h", "f", "v")
            assert await transport.call("HGETALL", "h") == [b"f", b"v"]


async def test_a_server_that_loads_its_data_is_waited_for(valkey_binary: Path) -> None:
    options = ("--appendonly", "yes", "--enable-debug-command", "yes")
    async with (
        open_private_server(valkey_binary, *options) as server,
        open_transport(server.url, name="t") as transport,
        trio.open_nursery() as nursery,
    ):
        await transport.call("DEBUG", "POPULATE", 200, "k", 10)
        await transport.call("CONFIG", "SET", "key-load-delay", 2000)
        await transport.call("BGREWRITEAOF")
        await until(lambda: _rewritten(transport))
        nursery.start_soon(transport.call, "DEBUG", "LOADAOF")
        await wait_all_tasks_blocked()
        async with open_transport(server.url, name="late") as late:
            assert await late.call("DBSIZE") == 200


async def test_a_lazy_transport_connects_at_its_first_call(redis_url: str) -> None:
    asked = 0

    async def url() -> str:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return redis_url

    async with open_transport(url, name="t", lazy=True) as transport:
        await wait_all_tasks_blocked()
        assert (asked, transport.generation, transport.connected) == (0, 0, False)
        assert await transport.call("PING") == b"PONG"
        assert (asked, transport.generation, transport.connected) == (1, 1, True)


async def test_a_lazy_transport_gives_the_reason_to_each_call_and_tries_again(redis_url: str) -> None:
    problems: list[Exception] = [EmbeddedServerError("no binary")]
    addresses = ["redis://127.0.0.1:1"]

    async def url() -> str:
        await trio.lowlevel.checkpoint()
        if problems:
            raise problems.pop()
        return addresses.pop() if addresses else redis_url

    async with open_transport(url, name="t", lazy=True) as transport:
        with pytest.raises(EmbeddedServerError, match="no binary"):
            await transport.call("PING", retry=True)
        with pytest.raises(ConnectionLost, match="refused"):
            await transport.call("PING")
        assert await transport.call("PING") == b"PONG"


async def test_a_bad_url_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="must begin with"):
        async with open_transport("http://localhost", name="t"):
            pass


async def test_an_error_of_the_body_is_not_wrapped_in_a_group(redis_url: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_transport(redis_url, name="t"):
            raise KeyError("mine")


async def test_a_fault_in_the_push_handler_ends_the_block(redis_url: str, namespace: str) -> None:
    def broken(_message: list[object]) -> None:
        raise ZeroDivisionError

    async def body() -> None:
        async with open_transport(redis_url, name="t", on_push=broken) as transport:
            await transport.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", namespace)
            await transport.call("SET", f"{namespace}:a", 1)
            await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(ZeroDivisionError):
        await body()


async def test_leaving_the_block_fails_what_still_waits(redis_url: str, namespace: str) -> None:
    errors: list[ConnectionLost] = []

    async def call(*args: str | int) -> None:
        try:
            await transport.call(*args)
        except ConnectionLost as error:
            errors.append(error)

    async with trio.open_nursery() as nursery, open_transport(redis_url, name="t") as transport:
        nursery.start_soon(call, "BLPOP", f"{namespace}:never", 0)
        await wait_all_tasks_blocked()
    assert [error.maybe_ran for error in errors] == [True]
    assert "closed by this process" in str(errors[0])
    with pytest.raises(ConnectionLost):
        await transport.call("PING", retry=True)


async def test_callers_wait_when_too_much_is_pending(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_COMMANDS", 10)
    done: list[int] = []
    async with (
        open_transport(redis_url, name="t") as transport,
        open_transport(redis_url, name="u") as other,
        trio.open_nursery() as nursery,
    ):

        async def push(number: int) -> None:
            await transport.call("RPUSH", f"{namespace}:list", number)
            done.append(number)

        nursery.start_soon(transport.call, "BLPOP", f"{namespace}:gate", 0)
        await wait_all_tasks_blocked()
        for number in range(30):
            nursery.start_soon(push, number)
        await wait_all_tasks_blocked()
        held = transport._backlog.room.statistics().tasks_waiting
        await other.call("RPUSH", f"{namespace}:gate", "open")
        await until(lambda: len(done) == 30)
    assert held == 21
    assert sorted(done) == list(range(30))


async def test_a_silent_server_is_given_up_and_calls_are_told(redis_url: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(
            proxy.url, name="t", ping_after=0.05, drop_after=0.15, connect_timeout=0.2
        ) as transport,
    ):
        proxy.blackhole()
        with trio.fail_after(10), pytest.raises(ConnectionLost, match="silent") as caught:
            await transport.call("INCR", "never-arrives")
        assert caught.value.maybe_ran
        proxy.heal()
        assert await transport.call("PING", retry=True) == b"PONG"


async def test_an_idle_connection_notices_silence_too(redis_url: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", ping_after=0.05, drop_after=0.15) as transport,
    ):
        proxy.blackhole()
        await _until_lost(transport)
        proxy.heal()


async def test_a_quiet_but_healthy_connection_is_kept(redis_url: str) -> None:
    async with (
        open_transport(redis_url, name="watches") as other,
        open_transport(redis_url, name="t", ping_after=0.05, drop_after=0.5) as transport,
    ):
        before = await _pings_seen(other)

        async def pinged_twice() -> bool:
            return await _pings_seen(other) >= before + 2

        await until(pinged_twice)
        assert transport.generation == 1


async def test_unsent_calls_wait_for_a_connection_for_a_while_only(redis_url: str, namespace: str) -> None:
    key = f"{namespace}:n"
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", connect_timeout=0.1, max_backoff=0.01) as transport,
    ):
        proxy.refusing = True
        proxy.cut_all()
        await _until_lost(transport)
        with pytest.raises(ConnectionLost, match="not sent") as caught:
            await transport.call("INCR", key)
        assert not caught.value.maybe_ran
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: transport.call("INCR", key, retry=True))
            await trio.sleep(0.3)
            proxy.refusing = False
        assert await transport.call("GET", key) == b"1"


async def test_a_retry_call_in_flight_survives_the_loss_and_others_are_told(
    redis_url: str, namespace: str
) -> None:
    errors: list[ConnectionLost] = []

    async def plain() -> None:
        try:
            await transport.call("INCR", f"{namespace}:n")
        except ConnectionLost as error:
            errors.append(error)

    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.01) as transport,
    ):
        proxy.blackhole()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(plain)
            nursery.start_soon(lambda: transport.pipeline([("PING",), ("ECHO", "x")], retry=True))
            await wait_all_tasks_blocked()
            proxy.cut_all(reset=True)
            proxy.heal()
        assert transport.generation == 2
    assert [error.maybe_ran for error in errors] == [True]
    assert "may or may not have run" in str(errors[0])


async def test_a_retry_call_that_makes_the_server_hang_up_ends(redis_url: str) -> None:
    async with (
        open_fault_proxy(redis_url) as proxy,
        open_transport(proxy.url, name="t", max_backoff=0.001) as transport,
    ):
        proxy.plan = Plan(cut_up=200)
        proxy.cut_all()
        await until(lambda: transport.generation == 2)
        with trio.fail_after(10), pytest.raises(ConnectionLost) as caught:
            await transport.call("SET", "k", "x" * 1000, retry=True)
        assert caught.value.maybe_ran
        assert transport.generation > 10


async def _pings_seen(transport: Transport) -> int:
    stats = await transport.call("INFO", "commandstats")
    line = next(line for line in stats.decode().splitlines() if line.startswith("cmdstat_ping:"))
    return int(line.partition("calls=")[2].partition(",")[0])


async def _rewritten(transport: Transport) -> bool:
    return b"aof_rewrite_in_progress:0" in await transport.call("INFO", "persistence")


async def _until_lost(transport: Transport) -> None:
    await until(lambda: not transport.connected)
