"""Every limit one below, at and one above; its answer, its counter and its line in the log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from conftest import until
from rakit_ws.config import Config
from rakit_ws.limits import Limits
from raw_client import CONTINUATION, PING, PONG, TEXT, frame, request, text

AT_MOST = [-1, 0, 1]
"""What is tried, beside the limit itself."""


@pytest.fixture
def logged(caplog):
    """Return the fields of the events with a name that were logged so far."""
    caplog.set_level(logging.INFO, "rakit_ws")

    def fields_of(name):
        records = [record.msg for record in caplog.records if record.name == "rakit_ws"]
        return [event.fields for event in records if event.name == name]

    return fields_of


async def closed_with(client, code, reason):
    assert await client.receive_close() == (code, reason)


def limits_met(logged):
    return [fields["limit"] for fields in logged("limit reached")]


# --- Before the handshake is done


def filled(size):
    """Make a sound request of exactly so many bytes."""
    return request(headers=[("X-Fill", "a" * (size - len(request(headers=[("X-Fill", "")]))))])


@pytest.mark.parametrize("beside", AT_MOST)
@pytest.mark.parametrize("limit", [1000, 65_535])
async def test_header_block(serve, dial, logged, limit, beside):
    server = await serve(max_header_size=limit)
    client = await dial(server)
    await client.send(filled(limit + beside))
    response = await client.read_response()
    is_over = beside > 0
    assert response.status == (431 if is_over else 101)
    assert server.counters["requests_too_large"] == is_over
    if is_over:
        assert str(limit) in response.body
    refused = [(fields["status"], fields["reason"]) for fields in logged("handshake refused")]
    assert refused == [(431, f"header block over {limit} bytes")] * is_over


async def all_answers(server, dial, count):
    """Open so many connections; return the status that the last one is answered with."""
    for _ in range(count):
        client = await dial(server)
        await client.send(request())
        response = await client.read_response()
    return response


@pytest.mark.parametrize(
    ("option", "counter"),
    [
        ("max_connections", "over_max_connections"),
        ("max_connections_per_ip", "over_max_connections_per_ip"),
    ],
)
@pytest.mark.parametrize("beside", AT_MOST)
async def test_connections(serve, dial, logged, option, counter, beside):
    server = await serve(**{option: 3})
    response = await all_answers(server, dial, 3 + beside)
    is_over = beside > 0
    assert response.status == (503 if is_over else 101)
    assert server.counters[counter] == is_over
    refused = [(fields["status"], fields["reason"]) for fields in logged("handshake refused")]
    assert refused == [(503, response.body.strip())] * is_over


@pytest.mark.parametrize("beside", AT_MOST)
async def test_undecided_handshakes(make_server, serve, dial, logged, beside):
    server = make_server(max_undecided_handshakes=3)
    may_enter = asyncio.Event()

    @server.on("connect")
    async def decide(client):
        await may_enter.wait()

    await serve(server)
    waiting = []
    for _ in range(3 + beside):
        waiting.append(await dial(server))
        await waiting[-1].send(request())
    is_over = beside > 0
    await until(lambda: len(server._running._undecided) == min(3, 3 + beside))
    if is_over:
        assert (await waiting.pop().read_response()).status == 503
    may_enter.set()
    for client in waiting:
        assert (await client.read_response()).status == 101
    assert server.counters["over_max_undecided"] == is_over
    assert len(logged("handshake refused")) == is_over


# --- Messages


@pytest.mark.parametrize("beside", AT_MOST)
async def test_message_size(serve, connect, logged, beside):
    server = await serve(max_buffer_size=1000)
    client = await connect(server)
    await client.send(text("x" * (1000 + beside)))
    if beside > 0:
        await closed_with(client, 1009, "message too big")
    else:
        assert len((await client.receive())["message"]) == 1000 + beside
    is_over = beside > 0
    assert server.counters["messages_too_big"] == is_over
    assert limits_met(logged) == ["max_buffer_size"] * is_over


def in_fragments(count, fragment=b""):
    """Make a text message in so many frames."""
    if count == 1:
        return frame(TEXT, fragment)
    middle = frame(CONTINUATION, fragment, fin=False) * (count - 2)
    return frame(TEXT, b"x", fin=False) + middle + frame(CONTINUATION, fragment)


@pytest.mark.parametrize("beside", AT_MOST)
@pytest.mark.parametrize("limit", [2, 100])
async def test_fragments(serve, connect, logged, limit, beside):
    server = await serve(max_fragments=limit)
    client = await connect(server)
    for _ in range(2):  # each message has its own count
        await client.send(in_fragments(limit))
        assert (await client.receive())["message"] == "x"
    await client.send(text("x") + in_fragments(limit + beside))
    assert (await client.receive())["message"] == "x"
    is_over = beside > 0
    if is_over:
        await closed_with(client, 1008, "too many fragments")
    else:
        await client.receive()
    assert server.counters["fragment_floods"] == is_over
    assert limits_met(logged) == ["max_fragments"] * is_over


async def test_fragment_over_the_limit_is_refused_at_its_header(serve, connect):
    client = await connect(await serve(max_fragments=2))
    await client.send(frame(TEXT, "x", fin=False), frame(CONTINUATION, "x", fin=False))
    await client.send(frame(CONTINUATION, "x" * 200)[:2])
    await closed_with(client, 1008, "too many fragments")


async def test_message_in_65536_fragments_is_taken_by_default(serve, connect):
    client = await connect(await serve())
    await client.send(in_fragments(65_536))
    assert (await client.receive())["message"] == "x"


@pytest.mark.parametrize("beside", AT_MOST)
async def test_control_frames(serve, connect, logged, beside):
    # So long a "second" that none passes: the engine's own tests have the clock.
    server = await serve(max_control_frames_per_second=10)
    client = await connect(server)
    sent = (frame(PING, b"x") + frame(PONG)) * 5 + frame(PING, b"x")
    end = len(frame(PONG)) * 5 + len(frame(PING, b"x")) * 5
    size = {-1: end - len(frame(PONG)), 0: end, 1: len(sent)}[beside]
    await client.send(sent[:size])
    for _ in range(5):
        received = await client.read_frame()
        assert (received.opcode, received.payload) == (PONG, b"x")
    is_over = beside > 0
    if is_over:
        await closed_with(client, 1008, "too many control frames")
    else:
        await client.fence()
    assert server.counters["control_floods"] == is_over
    assert limits_met(logged) == ["max_control_frames_per_second"] * is_over


async def test_control_frames_without_limit(serve, connect):
    client = await connect(await serve(max_control_frames_per_second=0))
    await client.send(frame(PONG) * 5000)
    await client.fence()


# A rate so low that no test lives to see a message more.
SELDOM = 0.001


async def messages_at_once(client, count):
    """Send so many messages in one go."""
    await client.send(b"".join(text({"ping": 1, "id": n}) for n in range(count)))


async def answers_to(client, count):
    return [(await client.receive())["type"] for _ in range(count)]


@pytest.mark.parametrize("beside", AT_MOST)
async def test_messages_per_second(serve, connect, logged, beside):
    server = await serve(rate_limit=SELDOM, rate_burst=5)
    client, other = await connect(server), await connect(server)
    await messages_at_once(client, 5 + beside)
    assert await answers_to(client, min(5, 5 + beside)) == ["pong"] * min(5, 5 + beside)
    is_over = beside > 0
    if is_over:
        answer = await client.receive()
        assert (answer["type"], answer["code"]) == ("error", "rate_limited")
    await other.fence()
    assert server.counters["messages_refused"] == is_over
    assert limits_met(logged) == ["rate_limit"] * is_over


@pytest.mark.parametrize("beside", AT_MOST)
async def test_messages_that_go_on_beyond_the_rate(serve, connect, logged, beside):
    server = await serve(rate_limit=SELDOM, rate_burst=5)
    client, other = await connect(server), await connect(server)
    await messages_at_once(client, 10 + beside)
    assert await answers_to(client, 6) == ["pong"] * 5 + ["error"]
    is_over = beside > 0
    if is_over:
        await closed_with(client, 1008, "too many messages")
    else:
        await client.send(frame(PING))
        assert (await client.read_frame()).opcode == PONG
    await other.fence()
    assert server.counters["messages_refused"] == 5 + beside
    assert server.counters["message_floods"] == is_over
    assert limits_met(logged) == ["rate_limit"]


async def test_refused_message_is_not_read_at_all(make_server, serve, connect):
    server = make_server(rate_limit=SELDOM, rate_burst=1)
    seen = []

    @server.on("receive")
    def receive(client, opcode, payload):
        seen.append(payload)

    await serve(server)
    client, other = await connect(server), await connect(server)
    await client.send(text({"to": other.id, "message": 1}), text({"to": other.id, "message": 2}))
    assert (await other.receive())["message"] == 1
    assert (await client.receive())["code"] == "rate_limited"
    await other.fence()
    assert [payload for payload in seen if b"message" in payload] == [
        b'{"to": "%b", "message": 1}' % other.id.encode()
    ]


# --- JSON


def nested(depth):
    """Make a message so deep, itself included."""
    return '{"message":' + "[" * (depth - 1) + "1" + "]" * (depth - 1) + "}"


@pytest.mark.parametrize("beside", AT_MOST)
@pytest.mark.parametrize("limit", [10, 512])
async def test_json_depth(serve, connect, logged, limit, beside):
    server = await serve(max_json_depth=limit)
    client = await connect(server)
    await client.send(text(nested(limit + beside)))
    is_over = beside > 0
    answer = await client.receive()
    assert answer["type"] == ("error" if is_over else "message")
    if is_over:
        assert (answer["code"], str(limit) in answer["message"]) == ("bad_request", True)
    await client.fence()
    assert server.counters["json_too_deep"] == is_over
    assert limits_met(logged) == ["max_json_depth"] * is_over


@pytest.mark.parametrize("sent", ["[" * 20, '{"a":' * 20, '{"ping":' + "[" * 20 + "]" * 20 + "}"])
async def test_deep_json_is_not_broadcast_as_plain_text(serve, connect, sent):
    client, other = [await connect(server) for server in [await serve(max_json_depth=10)] * 2]
    await client.send(text(sent))
    assert (await client.receive())["code"] == "bad_request"
    await other.fence()


async def test_brackets_in_strings_and_in_plain_text_have_no_depth(serve, connect):
    client = await connect(await serve(max_json_depth=2))
    await client.send(text('{"message":"[[[[{{{{"}'), text("ok :[[[[[[[["))
    assert (await client.receive())["message"] == "[[[[{{{{"
    assert (await client.receive())["message"] == "ok :[[[[[[[["


# --- Channels


async def subscribed(client, channel):
    """Subscribe; return the code of the error, None if there was none."""
    return (await client.ask({"event": "subscribe", "channel": channel})).get("code")


@pytest.mark.parametrize("beside", AT_MOST)
async def test_channels_of_a_client(serve, connect, logged, beside):
    server = await serve(max_channels_per_client=3)
    client = await connect(server)
    codes = [await subscribed(client, f"c{n}") for n in range(3 + beside)]
    is_over = beside > 0
    assert codes == [None] * min(3, 3 + beside) + ["too_many_channels"] * is_over
    assert await subscribed(client, "c0") is None, "it is there already"
    assert server.counters["over_max_channels_per_client"] == is_over
    assert limits_met(logged) == ["max_channels_per_client"] * is_over


@pytest.mark.parametrize("beside", AT_MOST)
async def test_channels_of_the_server(serve, connect, logged, beside):
    server = await serve(max_channels=3)
    client, other = await connect(server), await connect(server)
    codes = [await subscribed(client, f"c{n}") for n in range(3 + beside)]
    is_over = beside > 0
    assert codes == [None] * min(3, 3 + beside) + ["too_many_channels"] * is_over
    assert await subscribed(other, "c0") is None, "somebody hears it already"
    assert server.counters["over_max_channels"] == is_over
    assert limits_met(logged) == ["max_channels"] * is_over
    await client.ask({"event": "unsubscribe", "channel": "c1"})
    assert await subscribed(other, "new") is None, "there is room again"


async def test_channels_without_limit(serve, connect):
    client = await connect(await serve(max_channels=0))
    assert [await subscribed(client, f"c{n}") for n in range(20)] == [None] * 20


@pytest.mark.parametrize("beside", AT_MOST)
@pytest.mark.parametrize("limit", [10, 255])
@pytest.mark.parametrize("character", ["x", "\u00e9"])
async def test_channel_names(serve, connect, logged, limit, character, beside):
    server = await serve(max_channel_name_bytes=limit)
    client = await connect(server)
    size = len(character.encode())
    name = character * (limit // size) + "x" * (limit % size + beside)
    if beside < 0:
        name = character * ((limit - 1) // size) + "x" * ((limit - 1) % size)
    assert len(name.encode()) == limit + beside
    is_over = beside > 0
    assert await subscribed(client, name) == ("bad_request" if is_over else None)
    # No channel at all has a longer name than 255 bytes.
    assert server.counters["channel_names_too_long"] == (is_over and limit < 255)
    assert limits_met(logged) == ["max_channel_name_bytes"] * (is_over and limit < 255)


async def test_code_may_subscribe_a_client_beyond_its_limits(serve, connect):
    server = await serve(max_channels_per_client=0, max_channels=1, max_channel_name_bytes=1)
    client = await connect(server)
    assert all(server.clients[client.id].subscribe(f"channel {n}") for n in range(5))


# --- Errors


@pytest.mark.parametrize("beside", AT_MOST)
async def test_errors(serve, connect, logged, beside):
    server = await serve(max_errors=5)
    client, other = await connect(server), await connect(server)
    await client.send(frame(TEXT) * (5 + beside))
    for _ in range(5 + beside):
        assert (await client.receive())["code"] == "bad_request"
    is_over = beside > 0
    if is_over:
        await closed_with(client, 1008, "too many errors")
    else:
        await client.fence()
    await other.fence()
    assert server.counters["error_floods"] == is_over
    assert limits_met(logged) == ["max_errors"] * is_over


async def test_garbage_behind_too_many_errors_is_not_answered(serve, connect):
    server = await serve(max_errors=5)
    client = await connect(server)
    await client.send(frame(TEXT) * 200)
    messages, code = await client.receive_until_close()
    assert (len(messages), code) == (6, 1008)
    assert server.counters["errors_answered"] == 6


async def test_errors_without_limit(serve, connect):
    client = await connect(await serve(max_errors=0))
    await client.send(frame(TEXT) * 200)
    assert [(await client.receive())["type"] for _ in range(200)] == ["error"] * 200
    await client.fence()


async def test_fault_of_the_server_is_no_error_of_the_client(
    make_server, serve, connect, logged_errors
):
    server = make_server(max_errors=1)

    @server.command("broken")
    def broken(client):
        raise RuntimeError("broken")

    client = await connect(await serve(server))
    for _ in range(5):
        assert (await client.ask({"command": "broken"}))["code"] == "internal"
    assert "command failed" in logged_errors()


def test_time_gives_errors_back_up_to_as_many_as_at_once():
    now_s = 0.0
    limits = Limits(Config(max_errors=60), clock=lambda: now_s)
    budget = None

    def errors_until_overdrawn():
        nonlocal budget
        for count in range(1000):
            budget = limits.take_error(budget)
            if budget.is_overdrawn:
                return count
        return None

    assert errors_until_overdrawn() == 60
    budget = None
    for _ in range(60):
        budget = limits.take_error(budget)
    now_s = 10.0
    assert errors_until_overdrawn() == 10
    budget, now_s = limits.take_error(None), 10_000.0
    assert errors_until_overdrawn() == 60
