"""The server as Python code meets it: loops, life cycle, addresses, methods, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import uvloop

from application import app
from conftest import quiet_server, until
from rakit_ws import Client, Config, ConfigError, Delivered, ListenError, Server, UsageError
from raw_client import TEXT, RawClient, close, frame, request, text, within

# --- Both loops


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine in a loop of each kind."""

    def run_in_new_loop(main):
        loop = (uvloop if request.param == "uvloop" else asyncio).new_event_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(main, 30))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run_in_new_loop


@contextlib.asynccontextmanager
async def connected(server, count=1):
    """Connect clients, which leave at the end; yield the one, or a list of them."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            client = await RawClient.open(server.addresses[0])
            stack.push_async_callback(client.aclose)
            await client.handshake()
            client.id = (await client.receive())["client_id"]
            clients.append(client)
        yield clients[0] if count == 1 else clients


def test_messages_of_all_sizes_arrive(run):
    async def main():
        async with quiet_server() as server, connected(server, 2) as (one, two):
            for size in [0, 1, 125, 126, 65_535, 65_536, 300_000, 1_000_000]:
                await one.send({"to": two.id, "message": "x" * size})
                assert (await two.receive())["message"] == "x" * size

    run(main())


def test_many_messages_reach_many_clients_in_order(run):
    async def main():
        async with quiet_server() as server, connected(server, 30) as clients:
            for client in clients:
                await client.ask({"event": "subscribe", "channel": "c"})
            sent = [text({"event": "message", "channel": "c", "data": n}) for n in range(100)]
            await clients[0].send(b"".join(sent))
            for client in clients:
                assert [(await client.receive())["data"] for _ in range(100)] == list(range(100))

    run(main())


def test_async_hooks_and_commands_run(run):
    async def main():
        server = quiet_server()

        @server.on("connect")
        async def connected_hook(client):
            await asyncio.sleep(0.001)
            await server.publish("lobby", {"joined": client.id})
            client.subscribe("lobby")

        @server.command("double")
        async def double(client, number: int):
            await asyncio.sleep(0.001)
            return 2 * number

        async with server, connected(server, 2) as (one, two):
            assert (await one.receive())["data"] == {"joined": two.id}
            assert (await one.ask({"command": "double", "number": 21}))["result"] == 42

    run(main())


def test_what_code_sends_goes_out_at_once_though_nothing_else_happens(run):
    async def main():
        async with quiet_server() as server, connected(server, 2) as (one, two):
            # The engine is not looked at any more unless a socket is ready.
            server._running._timer.cancel()
            server.broadcast(1)
            server.send(one.id, 2)
            assert [(await one.receive())["message"] for _ in range(2)] == [1, 2]
            assert (await two.receive())["message"] == 1
            server.disconnect(two.id)
            assert (await two.receive_close())[0] == 4000

    run(main())


def test_other_threads_reach_the_server(run):
    async def main():
        async with quiet_server() as server, connected(server) as client:
            thread = threading.Thread(
                target=server.call_soon_threadsafe, args=(server.broadcast, {"from": "thread"})
            )
            thread.start()
            assert await client.receive() == {"type": "broadcast", "message": {"from": "thread"}}
            thread.join()

    run(main())


def test_two_servers_live_side_by_side(run):
    async def main():
        first, second = quiet_server(), quiet_server(max_channels_per_client=0)

        @first.on("receive")
        def relay(client, opcode, payload):
            second.broadcast(payload.decode())
            return True

        async with first, second, connected(first) as one, connected(second) as two:
            assert first.addresses != second.addresses
            await one.send(text("over there"))
            assert (await two.receive())["message"] == "over there"
            answer = await two.ask({"event": "subscribe", "channel": "c"})
            assert answer["code"] == "too_many_channels"
            assert list(first.clients) == [one.id]
            assert list(second.clients) == [two.id]
            first.broadcast("here")
            assert (await one.receive())["message"] == "here"
            await two.fence()

    run(main())


def test_everyone_is_closed_when_the_server_stops(run):
    async def main():
        async with quiet_server() as server:
            client = await RawClient.open(server.addresses[0])
            await client.handshake()
            leaving = asyncio.ensure_future(leave_when_closed(client))
        return await leaving

    async def leave_when_closed(client):
        messages, code = await client.receive_until_close()
        assert len(messages) == 1
        await client.send(close(code))
        assert await client.at_end()
        await client.aclose()
        return code

    assert run(main()) == 1001


def test_server_with_nothing_to_do_does_nothing(run):
    async def main():
        server = quiet_server(close_timeout=5)
        may_enter, may_go_on = asyncio.Event(), asyncio.Event()

        @server.on("connect")
        async def undecided(client):
            if client.path == "/undecided":
                await may_enter.wait()

        @server.on("receive")
        async def slow(client, opcode, payload):
            await may_go_on.wait()

        async with server, connected(server, 3) as (one, two, _idle):
            engine = server._running.engine
            waiting = await RawClient.open(server.addresses[0])
            await waiting.send(request("/undecided"), bytes(100_000))
            for _ in range(200):  # more than its mailbox holds
                await one.send(text("x" * 10_000))
            server.disconnect(two.id)
            assert (await two.receive_close())[0] == 4000
            await until(lambda: server._running._undecided)
            batches = 0

            class Counting:
                def handle_batch(self, *handlers):
                    nonlocal batches
                    batches += 1
                    engine.handle_batch(*handlers)

                def __getattr__(self, name):
                    return getattr(engine, name)

            await asyncio.sleep(0.1)
            server._running.engine = Counting()
            await asyncio.sleep(0.3)
            assert batches < 30
            may_enter.set()
            may_go_on.set()
            await waiting.aclose()

    run(main())


# --- Life cycle


async def test_serve_forever_returns_when_stopped():
    async with quiet_server() as server:
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        assert not serving.done()
        server.stop()
        server.stop()
        await within(serving)


async def test_hook_may_stop_the_server():
    server = quiet_server(close_timeout=0.2)
    server.on("receive")(lambda client, opcode, payload: server.stop())
    async with server, connected(server) as client:
        await client.send(text("stop"))
        await within(server.serve_forever())


async def test_server_may_run_again():
    server = quiet_server()
    for _ in range(3):
        async with server, connected(server) as client:
            assert list(server.clients) == [client.id]
        with pytest.raises(UsageError):
            _ = server.clients


async def test_exception_in_the_body_stops_the_server_and_goes_on():
    server = quiet_server(close_timeout=0.2)
    addresses = []

    async def body():
        async with server:
            addresses.extend(server.addresses)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()
    with pytest.raises(ConnectionError):
        await RawClient.open(addresses[0])


async def test_running_server_can_neither_be_entered_nor_configured():
    async with quiet_server() as server:
        with pytest.raises(UsageError):
            await server.__aenter__()
        with pytest.raises(UsageError):
            server.configure(Config())
        server.broadcast(1)


def test_server_may_be_configured_before_it_runs():
    server = quiet_server()
    server.configure(Config(port=7001))
    assert server.config.port == 7001


def test_what_needs_a_running_server_says_so():
    server = quiet_server()
    for use in [
        lambda: server.addresses,
        lambda: server.clients,
        lambda: server.channels,
        lambda: server.counters,
        lambda: server.broadcast(1),
        lambda: server.publish("c", 1),
        lambda: server.send("x", 1),
        lambda: server.disconnect("x"),
        server.stop,
        lambda: server.call_soon_threadsafe(print),
    ]:
        with pytest.raises(UsageError, match="not running"):
            use()


async def test_serving_needs_a_running_server():
    with pytest.raises(UsageError, match="not running"):
        await quiet_server().serve_forever()


def open_descriptors():
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


async def test_stopped_servers_leave_nothing_behind():
    async def run_once():
        async with quiet_server() as server, connected(server) as client:
            await client.fence()

    await run_once()
    before = open_descriptors()
    for _ in range(5):
        await run_once()
    assert open_descriptors() <= before


# --- Settings


def test_settings_are_keyword_arguments():
    server = Server(port=0, allowed_origins=["https://a.example"], presence={"max_users": 5})
    assert server.config.allowed_origins == ("https://a.example",)
    assert server.config.presence.max_users == 5
    assert server.config.presence.interval == Config().presence.interval


def test_neither_files_nor_environment_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rakit_ws.toml").write_text("port = 7001\n")
    monkeypatch.setenv("RAKIT_WS_HOST", "0.0.0.0")
    assert Server().config == Config()


def test_wrong_settings_are_configuration_errors():
    with pytest.raises(ConfigError, match=r"prot.*port"):
        Server(prot=6001)
    with pytest.raises(ConfigError, match="port"):
        Server(port="6001")
    with pytest.raises(ConfigError, match="presence"):
        Server(presence={"intervall": 1})
    with pytest.raises(UsageError):
        Server(config=Config(), port=6001)


def test_configuration_comes_from_a_file_and_then_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "my.toml"
    file.write_text('host = "::1"\nport = 7001\n[presence]\ninterval = 0.5\n')
    monkeypatch.setenv("RAKIT_WS_PORT", "7002")
    config = Server.from_config(file).config
    assert (config.host, config.port, config.presence.interval) == ("::1", 7002, 0.5)
    assert Server.from_config(str(file)).config == config
    with pytest.raises(ConfigError, match=r"other\.toml"):
        Server.from_config(tmp_path / "other.toml")
    file.write_text("port = 'x'\n")
    with pytest.raises(ConfigError, match=r"my\.toml.*port"):
        Server.from_config(file)


# --- Addresses


async def test_port_0_is_replaced_by_a_free_one():
    async with quiet_server() as server, connected(server) as client:
        assert re.fullmatch(r"127\.0\.0\.1:[1-9][0-9]*", server.addresses[0])
        assert server.clients[client.id].remote_address.startswith("127.0.0.1:")


async def test_name_is_listened_on_at_all_its_addresses_with_one_port():
    async with quiet_server(host="localhost") as server:
        assert len({address.rpartition(":")[2] for address in server.addresses}) == 1
        for address in server.addresses:
            client = await RawClient.open(address)
            await client.handshake()
            await client.aclose()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
async def test_server_listens_on_ipv6():
    async with quiet_server(host="::1") as server, connected(server) as client:
        assert re.fullmatch(r"\[::1\]:[0-9]+", server.addresses[0])
        assert server.clients[client.id].remote_address.startswith("[::1]:")
        await client.fence()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
async def test_ipv6_neighbours_share_the_cap_of_an_address():
    async with quiet_server(host="::1", max_connections_per_ip=1) as server, connected(server):
        client = await RawClient.open(server.addresses[0])
        await client.send(request())
        assert (await client.read_response()).status == 503
        await client.aclose()


async def test_server_listens_on_a_unix_socket_and_removes_it(tmp_path):
    path = tmp_path / "rakit.sock"
    for _ in range(2):
        async with quiet_server(host=f"unix:{path}") as server, connected(server) as client:
            assert server.addresses == [f"unix:{path}"]
            assert path.is_socket()
            assert server.clients[client.id].remote_address == "unix:"
            await client.fence()
        assert not path.exists()


async def test_address_that_is_taken_is_a_listen_error_and_the_first_stays(tmp_path):
    for host in ["127.0.0.1", f"unix:{tmp_path / 's'}"]:
        async with quiet_server(host=host) as server, connected(server) as client:
            port = 0 if host.startswith("unix:") else int(server.addresses[0].rpartition(":")[2])
            second = quiet_server(host=host, port=port)
            with pytest.raises(ListenError, match="cannot listen on"):
                await second.__aenter__()
            with pytest.raises(UsageError, match="not running"):
                second.stop()
            await client.fence()


async def test_address_of_somebody_else_is_a_listen_error(tmp_path):
    for host in ["192.0.2.1", f"unix:{tmp_path / 'missing' / 's'}", f"unix:{tmp_path}"]:
        with pytest.raises(ListenError, match="cannot listen on"):
            await quiet_server(host=host).__aenter__()


# --- Methods


async def test_what_is_delivered_is_counted_and_may_be_awaited():
    async with quiet_server() as server, connected(server, 3) as clients:
        await clients[0].ask({"event": "subscribe", "channel": "c"})
        counts = [
            server.broadcast(1),
            server.publish("c", 1),
            server.publish("nobody", 1),
            server.send(clients[0].id, 1),
            server.send("nobody", 1),
        ]
        assert counts == [3, 1, 0, 1, 0]
        assert all(isinstance(count, Delivered) for count in counts)
        assert [await count for count in counts] == [3, 1, 0, 1, 0]
        assert type(await counts[0]) is int
        assert await server.broadcast(2) == 3


async def test_what_code_sends_is_in_the_servers_voice():
    async with quiet_server() as server, connected(server) as client:
        member = server.clients[client.id]
        assert member.subscribe("c")
        server.broadcast({"a": [1, None, "é"]})
        server.publish("c", 1.5)
        server.send(member, "private")
        assert member.send({"x": 1})
        assert member.send_frame(1, b"raw")
        assert [await client.receive_text() for _ in range(5)] == [
            '{"type":"broadcast","message":{"a":[1,null,"é"]}}',
            '{"type":"channel","channel":"c","data":1.5}',
            '{"type":"private","message":"private"}',
            '{"type":"private","message":{"x":1}}',
            "raw",
        ]


def cycle():
    holder = []
    holder.append(holder)
    return holder


@pytest.mark.parametrize(
    "value", [object(), {1j: 1}, "\ud800", cycle()], ids=lambda value: type(value).__name__
)
async def test_what_json_cannot_hold_is_a_usage_error_and_sends_nothing(value):
    async with quiet_server() as server, connected(server) as client:
        member = server.clients[client.id]
        for send in [
            lambda: server.broadcast(value),
            lambda: server.publish("c", value),
            lambda: server.send(member, value),
            lambda: member.send(value),
        ]:
            with pytest.raises(UsageError, match="JSON can't hold"):
                send()
        await client.fence()


async def test_what_is_no_number_goes_out_as_null():
    async with quiet_server() as server, connected(server) as client:
        server.broadcast([float("nan"), float("inf"), 1.5])
        assert (await client.receive())["message"] == [None, None, 1.5]


@pytest.mark.parametrize("channel", ["", "x" * 256, "a\nb", "é" * 128, "\ud800"])
async def test_channel_that_cannot_be_is_a_usage_error(channel):
    async with quiet_server() as server, connected(server) as client:
        with pytest.raises(UsageError, match="channel"):
            server.publish(channel, 1)
        with pytest.raises(UsageError, match="channel"):
            server.clients[client.id].subscribe(channel)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_536, 1 << 40])
async def test_close_code_that_must_not_be_sent_is_a_usage_error(code):
    async with quiet_server() as server, connected(server) as client:
        with pytest.raises(UsageError):
            server.disconnect(client.id, code)
        with pytest.raises(UsageError):
            server.clients[client.id].disconnect(code)
        await client.fence()


async def test_clients_and_channels_tell_who_is_there():
    async with quiet_server() as server, connected(server, 2) as (one, two):
        clients = server.clients
        assert isinstance(clients, Mapping)
        assert list(clients) == [one.id, two.id]
        assert all(isinstance(each, Client) for each in clients.values())
        assert clients[one.id].id == one.id
        with pytest.raises(TypeError):
            clients["x"] = None
        assert server.channels == {}
        assert clients[one.id].subscribe("a")
        assert not clients[one.id].subscribe("a")
        assert clients[two.id].subscribe("a")
        assert clients[two.id].subscribe("b")
        assert server.channels == {"a": 2, "b": 1}
        assert sorted(clients[two.id].channels) == ["a", "b"]
        assert clients[two.id].unsubscribe("b")
        assert not clients[two.id].unsubscribe("b")
        assert server.channels == {"a": 2}
        await one.send(close(1000))
        await one.receive_close()
        assert list(clients) == [two.id]
        assert server.channels == {"a": 1}


async def test_client_has_a_place_for_the_applications_data():
    async with quiet_server() as server, connected(server, 2) as (one, two):
        server.clients[one.id].data["score"] = 1
        assert server.clients[one.id].data == {"score": 1}
        assert server.clients[two.id].data == {}
        assert one.id in repr(server.clients[one.id])


async def test_code_may_subscribe_beyond_the_clients_bound():
    async with quiet_server(max_channels_per_client=0) as server, connected(server) as client:
        assert server.clients[client.id].subscribe("c")
        server.publish("c", 1)
        assert (await client.receive())["data"] == 1


async def test_client_of_a_stopped_server_is_inert():
    async with quiet_server() as server, connected(server) as client:
        member = server.clients[client.id]
    assert not member.send(1)
    assert not member.subscribe("c")
    assert not member.disconnect()
    assert member.channels == []


async def test_counters_count():
    async with quiet_server() as server, connected(server) as client:
        await client.send(frame(TEXT, "é"))
        await client.receive()
        await client.fence()
        counters = server.counters
        assert all(type(count) is int for count in counters.values())
        assert counters["accepted"] == counters["opened"] == 1
        assert counters["errors_answered"] == 0
        await client.send({"event": "none"})
        assert (await client.receive())["type"] == "error"
        assert server.counters["errors_answered"] == 1
        assert counters["messages_received"] == 2
        assert counters["bytes_sent"] > 0


# --- Signals

START_APP = """
import asyncio

from rakit_ws import Server

server = Server(port=0, close_timeout=30)


@server.on("start")
async def start(server):
    print(server.addresses[0], flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)
        if HANGS:
            await asyncio.Event().wait()


raise SystemExit(server.run())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_a_start_hook_that_waits(tmp_path, number):
    with app(tmp_path, START_APP.replace("HANGS", "False")) as (process, _):
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "cancelled\n" in output
    assert "Traceback" not in output


def test_second_signal_ends_the_process_at_once_though_a_start_hook_hangs(tmp_path):
    with app(tmp_path, START_APP.replace("HANGS", "True")) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert "cancelled\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "stopped at once" in output


async def test_stop_cancels_an_async_start_hook():
    server = quiet_server()
    ends = []

    @server.on("start")
    async def start(server):
        asyncio.get_running_loop().call_soon(server.stop)
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("start")

    async with server:
        await within(server.serve_forever())
    assert ends == ["start"]


async def test_server_whose_start_is_cancelled_listens_no_more():
    server = quiet_server()
    addresses = []

    @server.on("start")
    async def start(server):
        addresses.extend(server.addresses)
        await asyncio.Event().wait()

    entering = asyncio.ensure_future(server.__aenter__())
    await until(lambda: addresses)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    with pytest.raises(ConnectionError):
        await RawClient.open(addresses[0])
    with pytest.raises(UsageError, match="not running"):
        server.stop()
