"""
Whatever text arrives: nothing raises, and every answer is an object of the protocol (protocol §3).

Hypothesis makes the objects, almost right ones most of the time, and damages some of them. They go
through a real server; the test fails if it logged an error.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raw_client import TEXT, frame

TYPES = {"message", "private", "channel", "broadcast", "presence", "ack", "error", "pong"}

channels = st.sampled_from(["room", "n" * 255, "n" * 256, "\x00", ""])
events = st.sampled_from(
    ["subscribe", "unsubscribe", "message", "members", "auth", "presence", "Message"]
)
commands = st.sampled_from(
    ["broadcast", "presence", "private_message", "broadcast_to_channel", "disconnect", "shutdown"]
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), channels
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
ids = st.integers(-5, 5) | st.text(max_size=66) | scalars


def mostly(right):
    return st.one_of(right, right, right, scalars)


receivers = st.one_of(
    mostly(channels), st.dictionaries(st.sampled_from(["user", "x"]), scalars, max_size=2)
)
# An object is what its first key says; the others belong to it, or are ignored.
objects = st.one_of(
    st.fixed_dictionaries(
        {"event": mostly(events)},
        optional={
            "channel": mostly(channels),
            "data": values,
            "token": scalars,
            "grant": mostly(st.text("0123456789abcdef", max_size=64)),
            "id": ids,
        },
    ),
    st.fixed_dictionaries(
        {"command": mostly(commands)},
        optional={
            "channel": mostly(channels),
            "message": values,
            "to": receivers,
            "client_id": scalars,
            "id": ids,
        },
    ),
    st.fixed_dictionaries({"message": values}, optional={"to": receivers, "id": ids}),
    st.dictionaries(st.sampled_from(["id", "ping", "to", "x"]), values, max_size=3),
    values,
)
# What a fault of serialization or a truncated copy makes of an object.
damages = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["", '"', "{", "}", ",", "\\", "\\ud800", "0"])),
    max_size=2,
) | st.just([])


@st.composite
def texts(draw):
    text = json.dumps(draw(objects), ensure_ascii=draw(st.booleans()))
    for at, piece in draw(damages):
        at = at % (len(text) + 1)
        text = text[:at] + piece + text[at + 1 :]
    # A lone half of a surrogate pair has no UTF-8, and is refused before anything reads it.
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()


deep = st.builds(
    lambda opening, count, closing: (opening * count + closing).encode(),
    st.sampled_from(["[", '{"message":', '{"id":1,"message":[', '{"a":[']),
    st.integers(1, 3000),
    st.sampled_from(["", "]", "}", "1"]),
)


@pytest.mark.parametrize("plain_text", ["broadcast", "reject"])
async def test_any_text_is_answered_with_objects_of_the_protocol(serve, connect, plain_text):
    # The budget for errors would end the client; presence would come in between.
    server = await serve(plain_text=plain_text, max_errors=0)
    received = await exchange(server, connect, examples(texts() | deep, count=300))
    assert {message["type"] for message in received} <= TYPES
    # It would prove nothing if all of them had been refused for the same reason.
    codes = {message["code"] for message in received if message["type"] == "error"}
    assert len(codes) >= 4, codes


guarded = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["subscribe", "message", "members", ""]),
        "channel": st.sampled_from(["room", "news"]),
    },
    optional={
        "data": values,
        "grant": mostly(st.text("0123456789abcdef", max_size=64)),
        "id": ids,
    },
).map(lambda members: json.dumps(members).encode())
GUARDED = {
    "channels": [{"pattern": "r*", "subscribe": "grant"}, {"pattern": "n*", "publish": "users"}],
    "channel_secret": "a-secret-of-the-application",
}


async def test_guarded_channels_answer_any_text_with_objects_of_the_protocol(serve, connect):
    server = await serve(max_errors=0, **GUARDED)
    received = await exchange(server, connect, examples(texts() | guarded, count=300))
    assert {message["type"] for message in received} <= TYPES
    assert server.counters["channel_refusals"] > 0
    assert "room" not in server.channels


async def test_any_text_is_something_to_the_php_servers_rules(serve, dial):
    server = await serve(compat="php", **GUARDED)
    client = await dial(server)
    await client.handshake()
    client_id = (await client.receive_text()).split()[1].removeprefix("#")
    said = []
    for number, payload in enumerate(examples(texts() | deep | guarded, count=300)):
        fence = f'{{"client_id":"{client_id}","message":"fence {number}"}}'
        await client.send(frame(TEXT, payload), {"to": client_id, "message": f"fence {number}"})
        while (text := await client.receive_text()) != fence:
            said.append(text)
    assert len(said) > 50
    assert server.counters["messages_ignored"] > 50
    assert "room" not in server.channels


async def exchange(server, connect, payloads):
    """Send each text, with a fence behind it; return what came before the fences."""
    client = await connect(server)
    received = []
    for number, payload in enumerate(payloads):
        await client.send(frame(TEXT, payload), {"ping": 1, "id": f"fence {number}"})
        while (message := await client.receive()) != {"type": "pong", "id": f"fence {number}"}:
            received.append(message)
        if client.id not in server.clients:
            raise AssertionError(payload)
    return received


def examples(strategy, *, count):
    """Return examples of a strategy, the same each time."""
    found = []

    @settings(
        max_examples=count,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example):
        found.append(example)

    collect()
    return found
