"""The engine's `publish_from`: a client's message, put together where it is queued."""

from __future__ import annotations

import json

import pytest

from rakit_ws._core import ClientBase


class Openings(dict):
    """What messages in a topic begin with, and which topics were asked for."""

    def __init__(self):
        self.asked = []

    def __missing__(self, topic):
        self.asked.append(topic)
        if topic == "wrong":
            raise ValueError(topic)
        return b"" if topic == "empty" else b'{"in":"%b","data":' % topic.encode()


async def heard(hearer):
    return json.loads(await hearer.receive_text())


@pytest.fixture
async def channel(serve, connect):
    """A server with one client that hears `c` and `empty`, and the client as the hub knows it."""
    server = await serve()
    hearer = await connect(server)
    for name in ("c", "empty"):
        await hearer.ask({"event": "subscribe", "channel": name})
    engine = server._running.engine
    return engine, hearer, server._running.hub.by_id[hearer.id]


async def test_a_message_is_its_opening_its_data_and_the_signature(channel):
    engine, hearer, client = channel
    client.signature = b',"from":"me"}'
    openings = Openings()
    # Copied, and one that is too large for that; data in any buffer that is read-only.
    for data in (b"1", memoryview(b'"two"'), memoryview(b'"%b"' % (b"x" * 200_000))):
        assert engine.publish_from(client, "c", data, openings) == 1
        assert await heard(hearer) == {"in": "c", "data": json.loads(bytes(data)), "from": "me"}
    assert openings.asked == ["c"]


async def test_openings_are_asked_again_when_a_topic_begins_anew(channel):
    engine, hearer, client = channel
    openings = Openings()
    engine.publish_from(client, "c", b"1", openings)
    await heard(hearer)
    await hearer.ask({"event": "unsubscribe", "channel": "c"})
    assert engine.publish_from(client, "c", b"1", openings) == 0
    assert engine.publish_from(client, "nobody hears it", b"1", openings) == 0
    await hearer.ask({"event": "subscribe", "channel": "c"})
    assert engine.publish_from(client, "c", b"1", openings) == 1
    assert openings.asked == ["c", "c", "nobody hears it", "c"]


async def test_parts_may_be_empty(channel):
    engine, hearer, client = channel
    client.signature = b'{"whole":true}'
    assert engine.publish_from(client, "empty", b"", Openings()) == 1
    assert await heard(hearer) == {"whole": True}
    native = ClientBase(engine, client.handle, 0)
    assert native.signature == b""
    assert engine.publish_from(native, "empty", b"[]", {}) == 1
    assert await heard(hearer) == []


async def test_what_is_wrong_raises_and_publishes_nothing(channel):
    engine, hearer, client = channel
    with pytest.raises(ValueError, match="wrong"):
        engine.publish_from(client, "wrong", b"1", Openings())
    with pytest.raises(TypeError):
        engine.publish_from(client, "c", "text", Openings())
    with pytest.raises(TypeError, match="may change"):
        engine.publish_from(client, "c", bytearray(b"1"), Openings())
    with pytest.raises(BufferError):
        engine.publish_from(client, "c", memoryview(b"1 2")[::2], Openings())
    with pytest.raises(TypeError):
        engine.publish_from(client, "c", b"1", {"c": "text"})
    with pytest.raises(KeyError):
        engine.publish_from(client, "c", b"1", {})
    with pytest.raises(TypeError):
        engine.publish_from(object(), "c", b"1", Openings())
    with pytest.raises(TypeError):
        client.signature = "text"
    engine.publish_from(client, "c", b"1", Openings())
    assert await heard(hearer) == {"in": "c", "data": 1, "client_id": hearer.id}
