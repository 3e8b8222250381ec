"""Hooks: every event of protocol §6, sync and async."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap

import pytest

from conftest import until
from rakit_ws import CrashedError, Refused, UsageError
from raw_client import BINARY, CONTINUATION, PING, PONG, TEXT, close, frame, request, text, within


@pytest.fixture(params=["sync", "async"])
def hook(request):
    """Make a hook of a function: itself, or a coroutine function that does the same later."""
    if request.param == "sync":
        return lambda function: function

    def made_async(function):
        async def later(*args):
            await asyncio.sleep(0)
            return function(*args)

        return later

    return made_async


def calls_of(server, event, hook=lambda function: function):
    """Add a hook that notes its arguments; return the list of them."""
    calls = []
    server.on(event)(hook(lambda *args: calls.append(args)))
    return calls


# --- start, stop


async def test_start_and_stop_are_told_once_with_the_server(make_server, connect, hook):
    server = make_server()
    seen = []
    server.on("start")(hook(lambda server: seen.append(("start", len(server.addresses)))))
    server.on("stop")(hook(lambda server: seen.append(("stop", len(server.clients)))))
    async with server:
        assert seen == [("start", 1)]
        client = await connect(server)
        await client.aclose()
    assert seen == [("start", 1), ("stop", 0)]


async def test_stop_is_told_behind_the_last_disconnect(make_server, connect, hook):
    server = make_server(close_timeout=0.2)
    seen = []
    server.on("disconnect")(hook(lambda client: seen.append("disconnect")))
    server.on("stop")(hook(lambda server: seen.append("stop")))
    async with server:
        await connect(server)
    assert seen == ["disconnect", "stop"]


# --- connect


async def test_connect_hook_sees_the_request_before_the_client_is_one(
    make_server, serve, connect, hook
):
    server = make_server(supported_protocols=["json"])
    seen = []

    @server.on("connect")
    @hook
    def connected(client):
        seen.append((client, len(server.clients)))

    await serve(server)
    headers = [("X-Token", "abc"), ("Sec-WebSocket-Protocol", "json")]
    peer = await connect(server, "/room/1?a=b", headers=headers)
    ((client, clients_then),) = seen
    assert clients_then == 0
    assert client is server.clients[peer.id]
    assert client.path == "/room/1"
    assert client.request.target == "/room/1?a=b"
    assert client.request.header("x-token") == "abc"
    assert client.request.header("X-Missing") is None
    assert ("x-token", "abc") in client.request.headers
    assert client.subprotocol == "json"
    host, port = peer.writer.get_extra_info("sockname")
    assert client.remote_address == f"{host}:{port}"
    assert (client.name, client.email, client.user) == ("Guest", None, None)
    assert client.close_code is None


@pytest.mark.parametrize("result", [None, True, 0, "", []])
async def test_connect_hook_lets_in_unless_it_says_false(make_server, serve, connect, hook, result):
    server = make_server()
    server.on("connect")(hook(lambda client: result))
    await connect(await serve(server))


def raising(error):
    def hook(*args):
        raise error

    return hook


REFUSING = {
    "False": (lambda client: False, 403, "forbidden"),
    "Refused": (raising(Refused()), 403, "forbidden"),
    "Refused with reason": (raising(Refused(401, "log in first")), 401, "log in first"),
    "Refused as too many": (raising(Refused(429, "später")), 429, "später"),
    "Refused as full": (raising(Refused(503, "full")), 503, "full"),
    "Refused with a rare status": (raising(Refused(499, "no")), 499, "no"),
}


@pytest.mark.parametrize(("refuse", "status", "reason"), REFUSING.values(), ids=REFUSING)
async def test_connect_hook_refuses(make_server, serve, dial, hook, refuse, status, reason):
    server = make_server()
    ends = calls_of(server, "disconnect")
    server.on("connect")(hook(refuse))
    client = await dial(await serve(server))
    await client.send(request() + text({"message": "early"}))
    response = await client.read_response()
    assert (response.status, response.body) == (status, reason + "\n")
    assert response.headers["connection"] == "close"
    assert await client.at_end()
    assert len(server.clients) == 0
    assert ends == []


async def test_connect_hook_that_raises_refuses_with_500(
    make_server, serve, dial, hook, logged_errors
):
    server = make_server()
    server.on("connect")(hook(raising(ValueError("secret"))))
    client = await dial(await serve(server))
    await client.send(request())
    response = await client.read_response()
    assert response.status == 500
    assert "secret" not in response.body
    assert logged_errors() == ["hook failed"]


@pytest.mark.parametrize("arguments", [(200, "no"), (600, "no"), (403, "two\nlines"), (403, "\r")])
async def test_refusal_that_cannot_be_sent_is_a_mistake_of_the_hook(
    make_server, serve, dial, hook, logged_errors, arguments
):
    server = make_server()

    @server.on("connect")
    @hook
    def refuse(client):
        raise Refused(*arguments)

    client = await dial(await serve(server))
    await client.send(request())
    assert (await client.read_response()).status == 500
    assert logged_errors() == ["hook failed"]


async def test_first_connect_hook_that_refuses_decides(make_server, serve, dial, hook):
    server = make_server()
    first = calls_of(server, "connect", hook)
    server.on("connect")(hook(raising(Refused(401, "first"))))
    server.on("connect")(hook(raising(Refused(402, "second"))))
    last = calls_of(server, "connect", hook)
    client = await dial(await serve(server))
    await client.send(request())
    assert (await client.read_response()).status == 401
    assert (len(first), len(last)) == (1, 0)


async def test_what_a_connect_hook_sends_and_subscribes_comes_behind_the_welcome(
    make_server, serve, connect, hook
):
    server = make_server()

    @server.on("connect")
    @hook
    def connected(client):
        client.send({"hello": client.id})
        client.subscribe("lobby")
        server.publish("lobby", "somebody comes")

    await serve(server)
    client = await connect(server)
    assert await client.receive() == {"type": "private", "message": {"hello": client.id}}
    assert await client.receive() == {
        "type": "channel",
        "channel": "lobby",
        "data": "somebody comes",
    }
    assert server.channels == {"lobby": 1}
    assert server.clients[client.id].channels == ["lobby"]


async def test_what_was_sent_to_a_client_that_is_refused_goes_nowhere(
    make_server, serve, dial, hook
):
    server = make_server()

    @server.on("connect")
    @hook
    def connected(client):
        client.send("secret")
        client.subscribe("lobby")
        return False

    client = await dial(await serve(server))
    await client.send(request())
    assert (await client.read_response()).status == 403
    assert await client.at_end()
    assert server.channels == {}


async def test_connect_hook_of_a_client_that_leaves_meanwhile_is_cancelled(
    make_server, serve, dial
):
    server = make_server()
    waits, cancelled = asyncio.Event(), asyncio.Event()
    ends = calls_of(server, "disconnect")

    @server.on("connect")
    async def connected(client):
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await dial(await serve(server))
    await client.send(request())
    await within(waits.wait())
    client.reset()
    await within(cancelled.wait())
    assert len(server.clients) == 0
    assert ends == []


async def test_connect_hook_of_a_client_that_leaves_at_once_is_awaited_all_the_same(
    make_server, serve, dial
):
    # "never awaited" would be a warning, which is an error here.
    server = make_server()

    @server.on("connect")
    async def connected(client):
        await asyncio.Event().wait()

    await serve(server)
    for _ in range(20):
        client = await dial(server)
        client.writer.write(request())
        client.reset()
    await until(lambda: server.counters["accepted"] == 20)
    await until(lambda: not server._running.engine.connection_count)
    await until(lambda: not server._running.tasks._tasks)


async def test_stop_waits_for_no_connect_hook(make_server, dial, caplog):
    caplog.set_level(logging.INFO, "rakit_ws")
    server = make_server(close_timeout=5)
    began, ends = asyncio.Event(), []

    @server.on("connect")
    async def connected(client):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(client)

    async with server:
        client = await dial(server)
        await client.send(request())
        await within(began.wait())
        reading = asyncio.ensure_future(client.read_response())
        reading.add_done_callback(lambda _: client.writer.close())
        began_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began_s < 2
    assert (await reading).status == 503
    assert len(ends) == 1
    assert any("handshake refused reason=" in message for message in caplog.messages)


async def test_other_clients_do_not_wait_for_an_async_connect_hook(
    make_server, serve, dial, connect
):
    server = make_server()
    may_enter = asyncio.Event()

    @server.on("connect")
    async def connected(client):
        if client.path == "/slow":
            await may_enter.wait()

    await serve(server)
    slow = await dial(server)
    await slow.send(request("/slow"))
    quick = await connect(server)
    await quick.fence()
    may_enter.set()
    assert (await slow.read_response()).status == 101


# --- disconnect


async def test_disconnect_hook_sees_why_and_a_client_that_is_gone(
    make_server, serve, connect, hook
):
    server = make_server()
    seen = []

    @server.on("disconnect")
    @hook
    def disconnected(client):
        seen.append((client.close_code, client.close_reason, client.id in server.clients))
        seen.append((client.send("x"), client.send_frame(1, b"x"), client.disconnect()))
        seen.append((client.subscribe("c"), client.unsubscribe("c"), client.channels))
        seen.append((server.send(client, 1), server.send(client.id, 1), server.disconnect(client)))

    client = await connect(await serve(server))
    await client.send(close(3001, "enough"))
    await client.receive_close()
    await until(lambda: len(seen) == 4)
    assert seen == [
        (3001, "enough", False),
        (False, False, False),
        (False, False, []),
        (0, 0, False),
    ]
    assert server.channels == {}


async def test_disconnect_hook_is_called_once_for_each_client(make_server, serve, connect, hook):
    server = make_server()
    ends = calls_of(server, "disconnect", hook)
    await serve(server)
    clients = [await connect(server) for _ in range(3)]
    ids = [client.id for client in clients]
    await clients[0].send(close(1000))
    clients[1].reset()
    server.disconnect(ids[2])
    server.disconnect(ids[2])
    await clients[2].receive_close()
    await clients[2].send(close(4000))
    await clients[2].at_end()
    await until(lambda: len(ends) == 3)
    assert sorted(client.id for (client,) in ends) == sorted(ids)


async def test_disconnect_hook_comes_behind_the_last_message(make_server, serve, connect):
    server = make_server()
    seen = []
    may_go_on = asyncio.Event()

    @server.on("receive")
    async def received(client, opcode, payload):
        await may_go_on.wait()
        seen.append(payload)
        return True

    @server.on("disconnect")
    def disconnected(client):
        seen.append(client.close_code)

    client = await connect(await serve(server))
    await client.send(text("1") + text("2") + text("3"))
    await client.send(close(1000))
    await client.receive_close()
    await until(lambda: not server.clients)
    assert seen == []
    may_go_on.set()
    await until(lambda: len(seen) == 4)
    assert seen == [b"1", b"2", b"3", 1000]


# --- receive


async def test_receive_hook_sees_each_message_before_it_is_routed(
    make_server, serve, connect, hook
):
    server = make_server()
    seen = calls_of(server, "receive", hook)
    client = await connect(await serve(server))
    sent = text({"message": 1}) + frame(BINARY, b"\xff") + frame(TEXT) + text("plain")
    sent += frame(PING) + frame(PONG)
    sent += frame(TEXT, "in ", fin=False) + frame(CONTINUATION, "two")
    await client.send(sent)
    answers = []
    while len(answers) < 5:
        received = await client.read_frame()
        if received.opcode == TEXT:
            answers.append(received.payload)
    member = server.clients[client.id]
    assert seen == [
        (member, 1, b'{"message": 1}'),
        (member, 2, b"\xff"),
        (member, 1, b""),
        (member, 1, b"plain"),
        (member, 1, b"in two"),
    ]
    assert type(seen[0][2]) is bytes


@pytest.mark.parametrize(("result", "is_routed"), [(True, False), (False, True), (None, True)])
async def test_receive_hook_that_says_true_takes_the_message_over(
    make_server, serve, connect, hook, result, is_routed
):
    server = make_server()
    server.on("receive")(hook(lambda client, opcode, payload: result))
    seen_behind = calls_of(server, "receive", hook)
    client, other = await connect(await serve(server)), await connect(server)
    await client.send(text({"to": other.id, "message": 1}), frame(BINARY, b"x"))
    if is_routed:
        assert (await client.receive())["code"] == "unsupported_binary"
        assert (await other.receive())["message"] == 1
    else:
        await until(lambda: server.counters["messages_received"] == 2)
        server.broadcast("end")
        assert (await client.receive())["message"] == "end"
        assert (await other.receive())["message"] == "end"
    assert len(seen_behind) == (2 if is_routed else 0)


async def test_receive_hook_may_answer_text_and_binary_as_it_likes(
    make_server, serve, connect, hook
):
    server = make_server(welcome=False)

    @server.on("receive")
    @hook
    def echo(client, opcode, payload):
        return client.send_frame(opcode, payload)

    client = await connect(await serve(server))
    for opcode, payload in [(TEXT, b""), (TEXT, b"x"), (BINARY, bytes(range(256)) * 300)]:
        await client.send(frame(opcode, payload))
        received = await client.read_frame()
        assert (received.opcode, received.payload, received.fin) == (opcode, payload, True)


async def test_hook_may_not_send_text_that_is_not_utf8_or_other_opcodes(
    make_server, serve, connect
):
    server = make_server()
    seen = []

    @server.on("receive")
    def received(client, opcode, payload):
        for opcode, payload in [(1, b"\xff"), (0, b""), (8, b""), (9, b""), (3, b"")]:
            with pytest.raises(UsageError):
                client.send_frame(opcode, payload)
        seen.append(client)

    client = await connect(await serve(server))
    await client.fence()
    assert len(seen) == 1


async def test_receive_hook_that_ends_by_a_cancellation_leaves_its_client_served(
    make_server, serve, connect, hook, logged_errors
):
    server = make_server()
    calls = []

    @server.on("receive")
    @hook
    def receive(client, opcode, payload):
        calls.append(payload)
        if len(calls) == 1:
            raise asyncio.CancelledError

    gone = calls_of(server, "disconnect")
    client = await connect(await serve(server))
    await client.send({"ping": 1})
    await until(lambda: calls and not any(each.mailbox for each in server.clients.values()))
    await asyncio.sleep(0.05)
    await client.send({"ping": 1, "id": 2})
    assert await client.receive() == {"type": "pong", "id": 2}
    client.reset()
    await until(lambda: gone)
    logged_errors()


async def test_client_whose_mailbox_is_given_up_is_read_again(make_server, serve, connect):
    server = make_server()
    may_go_on = asyncio.Event()

    @server.on("receive")
    async def receive(client, opcode, payload):
        await may_go_on.wait()

    client = await connect(await serve(server))
    for number in range(70):
        await client.send({"ping": 1, "id": number})
    (served,) = server.clients.values()
    await until(lambda: served.mailbox is not None and len(served.mailbox) >= 64)
    may_go_on.set()
    server._running.tasks.cancel_all()
    await until(lambda: served.mailbox is None)
    await client.send({"ping": 1, "id": "again"})
    while (await client.receive())["id"] != "again":
        pass


async def test_order_is_kept_while_an_async_receive_hook_runs(make_server, serve, connect):
    server = make_server()
    turns = [asyncio.Event() for _ in range(3)]

    @server.on("receive")
    async def received(client, opcode, payload):
        if payload.isdigit():
            await turns[int(payload)].wait()

    client, other = await connect(await serve(server)), await connect(server)
    await client.send(text("0") + text({"message": "a"}) + text("1") + text({"message": "b"}))
    await client.send(text("2"))
    # Who waits is nobody else.
    await other.fence()
    turns[2].set()
    turns[1].set()
    await other.fence()
    turns[0].set()
    received_messages = [(await other.receive())["message"] for _ in range(5)]
    assert received_messages == ["0", "a", "1", "b", "2"]


async def test_client_whose_hook_does_not_keep_up_is_read_no_more(make_server, serve, connect):
    server = make_server(ping_timeout=0)
    may_go_on = asyncio.Event()
    seen = []

    @server.on("receive")
    async def received(client, opcode, payload):
        await may_go_on.wait()
        seen.append(int(payload[:4]))
        return True

    await serve(server)
    client, other = await connect(server), await connect(server)
    count = 1000

    async def send_all():
        for n in range(count):
            await client.send(text(b"%04d" % n + b"x" * 30_000))

    sending = asyncio.ensure_future(send_all())
    member = server.clients[client.id]
    await until(lambda: member.mailbox is not None and len(member.mailbox) >= 64)
    for _ in range(100):
        await asyncio.sleep(0)
        server.broadcast(0)
        await other.receive()
    assert len(member.mailbox) < 200
    assert not sending.done()
    may_go_on.set()
    await within(sending)
    await until(lambda: len(seen) == count)
    assert seen == list(range(count))


# --- send


async def test_send_hook_sees_every_delivery(make_server, serve, connect, hook):
    server = make_server(presence={"interval": 0, "enabled": True})
    seen = []
    server.on("send")(
        hook(lambda client, opcode, payload: seen.append((client.id, opcode, bytes(payload))))
    )
    await serve(server)
    one = await connect(server)
    assert (await one.receive())["type"] == "presence"
    two = await connect(server)
    member = server.clients[two.id]
    await two.send(
        text({"event": "subscribe", "channel": "c", "id": 1})
        + text({"event": "message", "channel": "c", "data": 1, "id": 2})
        + text({"to": one.id, "message": 1})
        + text({"message": 1})
        + text("plain")
        + text({"event": "x"})
        + text({"ping": 1, "id": 3})
        + frame(BINARY)
    )
    await until(lambda: server.counters["messages_received"] == 8)
    server.broadcast(1)
    server.publish("c", 1)
    server.send(one.id, 1)
    member.send_frame(2, b"\x00")
    member.send_frame(1, b"{}")
    sent = server.counters["messages_sent"]
    await until(lambda: len(seen) >= sent)
    assert len(seen) == sent + 2  # the welcomes, which the engine does not count
    for client in (one, two):
        mine = [(opcode, payload) for receiver, opcode, payload in seen if receiver == client.id]
        received = [await client.read_frame() for _ in mine[2 if client is one else 1 :]]
        unread = mine[-len(received) :]
        assert [(each.opcode, each.payload) for each in received] == unread


async def test_async_send_hook_sees_deliveries_in_order(make_server, serve, connect):
    server = make_server()
    seen = []

    @server.on("send")
    async def sent(client, opcode, payload):
        await asyncio.sleep(0.002 if payload == b'{"type":"broadcast","message":0}' else 0)
        seen.append(payload)

    client = await connect(await serve(server))
    for n in range(200):
        server.broadcast(n)
    await until(lambda: len(seen) == 201)
    assert seen[1:] == [b'{"type":"broadcast","message":%d}' % n for n in range(200)]
    assert [(await client.receive())["message"] for _ in range(200)] == list(range(200))


async def test_deliveries_that_a_slow_send_hook_cannot_see_are_bounded_and_counted(
    make_server, serve, connect, caplog
):
    server = make_server()
    seen, may_go_on = [], asyncio.Event()

    @server.on("send")
    async def sent(client, opcode, payload):
        await may_go_on.wait()
        seen.append(payload)

    client = await connect(await serve(server))  # the welcome is shown, and does not end
    for n in range(2000):
        server.broadcast(n)
    assert server.counters["deliveries_not_shown"] == 2000 - 1024
    assert len(server._running.tasks._tasks) == 1
    may_go_on.set()
    await until(lambda: len(seen) == 1025)
    assert seen[-1] == b'{"type":"broadcast","message":1023}'
    assert [(await client.receive())["message"] for _ in range(2000)] == list(range(2000))
    slow = [message for message in caplog.messages if "send hook is too slow" in message]
    assert len(slow) == 1


async def test_what_a_send_hook_sends_is_not_shown_to_it(make_server, serve, connect, hook):
    server = make_server()
    seen = []

    @server.on("send")
    @hook
    def sent(client, opcode, payload):
        seen.append(payload)
        client.send("again")

    client = await connect(await serve(server))
    server.broadcast(1)
    received = [(await client.receive())["message"] for _ in range(3)]
    assert sorted(map(str, received)) == ["1", "again", "again"]
    assert len(seen) == 2


async def test_send_hook_that_raises_hinders_no_delivery(
    make_server, serve, connect, hook, logged_errors
):
    server = make_server()
    server.on("send")(hook(raising(ValueError("broken"))))
    seen = calls_of(server, "send", hook)
    client = await connect(await serve(server))
    await client.send({"message": 1})
    assert (await client.receive())["message"] == 1
    await until(lambda: len(seen) == 2)
    assert set(logged_errors()) == {"hook failed"}


# --- idle


async def test_idle_hook_is_told_of_silent_clients_alone(make_server, serve, connect, hook):
    server = make_server(ping_interval=0.1)
    seen = calls_of(server, "idle", hook)
    await serve(server)
    busy, silent = await connect(server), await connect(server)
    while len(seen) < 2:
        await busy.send({"ping": 1})
        await asyncio.sleep(0.005)
    # A machine that stands still for 0.1 s makes everyone idle.
    assert (server.clients[silent.id],) in seen
    assert (await silent.read_frame()).opcode == PING


# --- crash


class PanicError(BaseException):
    """As a panic of the native module arrives: no Exception."""


class BrokenEngine:
    """An engine of which one method does not work."""

    def __init__(self, engine, method, error):
        self.engine = engine
        self.method = method
        self.error = error
        self.calls = 0

    def fail(self, *_):
        self.calls += 1
        raise self.error

    def __getattr__(self, name):
        return self.fail if name == self.method else getattr(self.engine, name)


def break_engine(server, method, error):
    server._running.engine = broken = BrokenEngine(server._running.engine, method, error)
    return broken


@pytest.mark.parametrize("error", [OSError("no poller"), MemoryError(), PanicError("a panic")])
@pytest.mark.parametrize("method", ["handle_batch", "flush"])
async def test_crash_ends_the_server_and_is_told_once(
    make_server, connect, hook, logged_errors, method, error
):
    server = make_server(close_timeout=5)
    crashes, stops = calls_of(server, "crash", hook), calls_of(server, "stop", hook)
    async with server:
        client = await connect(server)
        broken = break_engine(server, method, error)
        await client.send({"message": 1})
        if method == "flush":  # what is queued outside of a batch
            server.broadcast(2)
        await within(server._running.stopped.wait())
        await asyncio.sleep(0.1)  # whoever spins calls it again
        assert broken.calls == 1
        began_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began_s < 1, "waited for what cannot come"
    assert crashes == [(error,)]
    assert len(stops) == 1
    assert logged_errors()[0] == "crashed"
    assert logged_errors().count("crashed") == 1
    assert server._exit_code == 1


async def test_clients_of_a_crashed_server_are_closed_with_1011(
    make_server, connect, logged_errors
):
    server = make_server()
    async with server:
        client, other = await connect(server), await connect(server)
        break_engine(server, "handle_batch", PanicError())
        await client.send({"message": 1})
        await within(server._running.stopped.wait())
    # What the first has sent is not read any more: TCP resets its connection.
    assert await other.receive_close() == (1011, "internal error")
    assert logged_errors() == ["crashed"]


async def test_serve_forever_raises_after_a_crash(make_server, connect, logged_errors):
    server = make_server()
    async with server:
        client = await connect(server)
        break_engine(server, "handle_batch", OSError("no poller"))
        await client.send({"message": 1})
        with pytest.raises(CrashedError) as raised:
            await within(server.serve_forever())
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(UsageError, match="not running"):
        server.stop()
    assert logged_errors() == ["crashed"]


async def test_panic_under_a_message_is_a_crash(make_server, connect, logged_errors):
    server = make_server()
    crashes = calls_of(server, "crash")
    async with server:
        client = await connect(server)

        def panic(*_):
            raise PanicError

        server._running._receive = panic
        await client.send({"event": "message", "channel": "c", "data": 1})
        await within(server._running.stopped.wait())
    assert isinstance(crashes[0][0], PanicError)
    assert logged_errors() == ["crashed"]


def test_run_returns_1_after_a_crash_and_0_otherwise(tmp_path):
    script = tmp_path / "app.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from rakit_ws import Server

            class BrokenEngine:
                def __init__(self, engine):
                    self.engine = engine
                def handle_batch(self, *_):
                    raise OSError("the poller is broken")
                def __getattr__(self, name):
                    return getattr(self.engine, name)

            server = Server(port=0, loop=sys.argv[1])

            @server.on("start")
            def start(server):
                if sys.argv[2] == "crash":
                    server._running.engine = BrokenEngine(server._running.engine)
                else:
                    server.stop()

            @server.on("crash")
            def crash(error):
                print("told of", type(error).__name__)

            raise SystemExit(server.run())
            """
        )
    )
    for loop in ("uvloop", "asyncio"):
        for how, code in [("crash", 1), ("stop", 0)]:
            done = subprocess.run(
                [sys.executable, str(script), loop, how],
                capture_output=True,
                text=True,
                timeout=20,
            )
            assert done.returncode == code, done
            assert ("told of OSError" in done.stdout) is (how == "crash")


# --- hooks that raise, hooks that hang


@pytest.mark.parametrize("event", ["start", "stop", "disconnect", "receive", "send", "idle"])
async def test_hook_that_raises_is_logged_with_its_traceback_and_the_next_is_called(
    make_server, connect, hook, caplog, logged_errors, event
):
    server = make_server(ping_interval=0.05, close_timeout=0.3)
    server.on(event)(hook(raising(ValueError("of the application"))))
    seen = calls_of(server, event, hook)
    async with server:
        client, other = await connect(server), await connect(server)
        await client.send({"message": 1})
        assert (await other.receive())["message"] == 1
        await until(lambda: event != "idle" or seen)
        await client.aclose()
        await other.aclose()
        await until(lambda: not server.clients)
    assert seen
    failures = [record for record in caplog.records if "hook failed" in record.getMessage()]
    assert len(failures) == 1  # and no more of them within this second
    assert all(f"event={event}" in record.getMessage() for record in failures)
    assert all(record.exc_info[0] is ValueError for record in failures)


async def test_receive_hook_that_raises_does_not_take_the_message(
    make_server, serve, connect, hook, logged_errors
):
    server = make_server()
    server.on("receive")(hook(raising(ValueError("broken"))))
    client = await connect(await serve(server))
    await client.fence()
    assert logged_errors() == ["hook failed"]


async def test_hook_that_never_ends_does_not_keep_the_server_from_stopping(make_server, connect):
    server = make_server(close_timeout=0.2)
    cancelled = asyncio.Event()

    @server.on("receive")
    async def received(client, opcode, payload):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with server:
        client = await connect(server)
        await client.send(text("x"))
        await until(lambda: server.clients[client.id].mailbox is not None)
        await client.aclose()
    await within(cancelled.wait())


# --- adding hooks


def test_unknown_event_is_a_usage_error_that_names_the_nearest(make_server):
    server = make_server()
    with pytest.raises(UsageError, match="connect"):
        server.on("conect")(print)
    with pytest.raises(UsageError, match="idle"):
        server.on("message-ish")(print)
    with pytest.raises(UsageError):
        server.on("start")("no function")


async def test_hooks_are_added_before_the_server_runs(server):
    with pytest.raises(UsageError, match="before"):
        server.on("connect")


def test_hook_is_returned_as_it_was(make_server):
    server = make_server()

    def hook(*args):
        pass

    assert server.on("connect")(server.on("disconnect")(hook)) is hook


# --- messages of a client that is disconnected


@pytest.mark.parametrize("is_async", [False, True], ids=["hook", "async hook"])
async def test_nothing_of_a_disconnected_client_is_handled_any_more(
    make_server, serve, connect, is_async
):
    server = make_server()
    seen, gone = [], []

    def look(client, opcode, payload):
        seen.append(payload)
        if payload == b"2":
            client.disconnect(reason="enough")
        return False

    async def look_later(client, opcode, payload):
        await asyncio.sleep(0)
        return look(client, opcode, payload)

    server.on("receive")(look_later if is_async else look)
    server.on("disconnect")(lambda client: gone.append((client.id, list(seen))))
    other = await connect(await serve(server))
    client = await connect(server)
    await client.send(b"".join(text(str(n)) for n in range(1, 80)))
    # The first one as plain text; neither the one that it was closed for nor what came behind it.
    assert (await other.receive())["message"] == "1"
    await until(lambda: gone)
    assert gone == [(client.id, [b"1", b"2"])]
    await other.fence()
    assert (await client.receive())["message"] == "1"
    assert await client.receive_close() == (4000, "enough")


async def test_what_waits_for_an_async_hook_is_dropped_when_the_client_is_disconnected(
    make_server, serve, connect
):
    server = make_server()
    may_go_on, seen, gone = asyncio.Event(), [], []

    @server.on("receive")
    async def receive(client, opcode, payload):
        seen.append(payload)
        await may_go_on.wait()
        return False

    server.on("disconnect")(gone.append)
    other = await connect(await serve(server))
    client = await connect(server)
    await client.send(text("a") + text("b") + text("c"))
    served = server.clients[client.id]
    await until(lambda: served.mailbox is not None and len(served.mailbox) == 2)
    assert server.disconnect(client.id)
    assert gone == []
    may_go_on.set()
    assert await client.receive_close() == (4000, "disconnected by server")
    await until(lambda: gone)
    assert seen == [b"a"]
    await other.fence()  # "a" was not routed either
