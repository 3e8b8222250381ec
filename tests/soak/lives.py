"""
What the clients of a soak do: each is one connection's life, from opening to end.

Every `live_…` takes a `Place` and returns when its connection has ended. The server may end it at any
time; what must not happen is that nothing happens, or that an answer is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import websockets

from raw_client import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    close,
    frame,
    request,
    text,
    within,
)

if TYPE_CHECKING:
    import random
    import ssl

CHANNELS = [f"room-{number}" for number in range(12)]
FLOODED = "flood"
# How the server may end a client for what it has done.
FAILED = {1002, 1007, 1009}


@dataclass
class Place:
    """Where a client lives, and how it throws dice."""

    address: str
    random: random.Random
    tls: ssl.SSLContext | None

    @contextlib.asynccontextmanager
    async def connection(self, **options):
        """Open TCP; whatever happens, it is closed behind."""
        client = await RawClient.open(self.address, tls=self.tls, **options)
        try:
            yield client
        finally:
            client.writer.transport.abort()

    @contextlib.asynccontextmanager
    async def websocket(self, **options):
        """Open a WebSocket; its welcome is read."""
        async with self.connection(**options) as client:
            await client.handshake()
            await client.receive()
            yield client

    def chance(self, of):
        return self.random.random() < of


async def read_to_the_end(client):
    """Read frames until the Close; answer it, and see TCP end. Return its code."""
    while True:
        received = await client.read_frame()
        if received.opcode == PING:
            await client.send(frame(PONG, received.payload))
        elif received.opcode == TEXT:
            json.loads(received.payload)
        elif received.opcode == 8:
            await client.send(close(1000))
            await client.at_end()
            return int.from_bytes(received.payload[:2], "big")


def chatter(place):
    """Make a few messages as a well-behaved client would send them."""
    channel = place.random.choice(CHANNELS)
    yield {"event": "subscribe", "channel": channel, "id": 1}
    for number in range(place.random.randrange(20)):
        data = "x" * place.random.choice((1, 50, 300, 2000))
        yield {"event": "message", "channel": channel, "data": data, "id": number}
    yield {"ping": 1, "id": "last"}
    if place.chance(0.05):
        yield {"message": "to everyone"}
    if place.chance(0.5):
        yield {"event": "unsubscribe", "channel": channel}


async def live_politely(place):
    """Subscribe, publish, read everything, close."""
    async with place.websocket() as client:
        await client.send(*chatter(place), close(1000))
        assert await read_to_the_end(client) == 1000


async def live_in_small_pieces(place):
    """As above, but TCP cuts everything."""
    async with place.websocket() as client:
        sent = b"".join(map(text, chatter(place))) + close(1000)
        # Not so many that a busy machine takes longer than the ping timeout.
        await client.send_slowly(sent, max(place.random.randrange(1, 40), len(sent) // 200))
        assert await read_to_the_end(client) == 1000


async def live_and_vanish(place):
    """Go with a reset, at times in the middle of a frame."""
    async with place.websocket() as client:
        sent = b"".join(map(text, chatter(place)))
        await client.send(sent[: place.random.randrange(len(sent))])
        client.reset()


async def live_half_open(place):
    """End our half of TCP while answers are due; under TLS, which asyncio can't end so, all of it."""
    async with place.websocket() as client:
        await client.send(*chatter(place))
        if place.tls is not None:
            client.reset()
            return
        client.end()
        # RuntimeError: a Ping that we cannot answer any more.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            await read_to_the_end(client)


async def live_and_stall(place):
    """Subscribe to the flood and never read: the server closes, or we vanish."""
    async with place.websocket(receive_buffer=4096) as client:
        await client.send({"event": "subscribe", "channel": FLOODED})
        await asyncio.sleep(place.random.uniform(1, 8))
        client.reset()


async def live_and_flood(place):
    """Publish more to slow readers than may wait for them."""
    async with place.websocket() as client:
        for _ in range(40):
            await client.send({"event": "message", "channel": FLOODED, "data": "y" * 16_000})
            await asyncio.sleep(0.01)
        await client.send(close(1000))
        await read_to_the_end(client)


MALFORMED = [
    frame(TEXT, "not masked", mask=None),
    frame(TEXT, "reserved", reserved=2),
    frame(3, "reserved"),
    frame(PING, b"x" * 126),
    frame(CONTINUATION, "of nothing"),
    frame(TEXT, b"\xff\xfe"),
    frame(TEXT, b"ok \xed\xa0\x80"),
    frame(TEXT, length=1 << 40),
    frame(TEXT, b"", length=(1 << 63) + 1, length_bytes=8),
    frame(8, b"\x03"),
    close(1006),
    frame(TEXT, "one", fin=False) + frame(TEXT, "two"),
]


async def live_and_break_the_protocol(place):
    """Do what RFC 6455 forbids, behind something sound; answer the Close, or do not."""
    async with place.websocket() as client:
        await client.send({"ping": 1, "id": 1}, place.random.choice(MALFORMED))
        if place.chance(0.5):
            assert await read_to_the_end(client) in FAILED
        else:
            received = await client.receive_until_close()
            assert received[1] in FAILED
            await client.at_end()


async def live_with_odd_json(place):
    """Send what no client should: the answer is an object, and life goes on."""
    odd = [
        b"[" * 5000,
        b'{"a":' * 2000,
        b'{"event":"subscribe","channel":7,"id":1}',
        b'{"event":"message","channel":"' + b"n" * 300 + b'","data":1}',
        b'{"command":"tables","collect":[],"id":"' + b"i" * 100 + b'"}',
        b'{"id":1e400}',
        b'{"to":"nobody","message":1,"id":1}',
        b"",
        b'"\\ud800"',
        b'{"message":',
    ]
    async with place.websocket() as client:
        for _ in range(place.random.randrange(1, 6)):
            # Half of them would be told to everyone as plain text.
            await client.send(frame(TEXT, place.random.choice(odd[2:8])))
        if place.chance(0.05):
            await client.send(frame(TEXT, place.random.choice(odd)))
        await client.send(close(1000))
        assert await read_to_the_end(client) == 1000


async def live_with_too_many_channels(place):
    """Subscribe to more than one may."""
    async with place.websocket() as client:
        for number in range(place.random.randrange(10, 30)):
            await client.send({"event": "subscribe", "channel": f"own-{id(client)}-{number}"})
        await client.send(close(1000))
        assert await read_to_the_end(client) in (1000, 1008)


async def live_in_fragments(place):
    """Send a message in many fragments; at times it has no end."""
    async with place.websocket() as client:
        opcode = place.random.choice((TEXT, BINARY))
        count = place.random.randrange(2, 400)
        await client.send(frame(opcode, "p" * 50, fin=False))
        await client.send(frame(CONTINUATION, "p" * 100, fin=False) * count)
        if place.chance(0.3):
            client.reset()
            return
        await client.send(frame(CONTINUATION, ""), close(1000))
        assert await read_to_the_end(client) == 1000


async def live_with_large_messages(place):
    """Send binary messages up to the limit, which come back."""
    async with place.websocket() as client:
        payload = place.random.randbytes(place.random.randrange(1000, 200_000))
        await client.send(frame(BINARY, payload))
        while (received := await client.read_frame()).opcode != BINARY:
            pass
        assert received.payload == payload
        await client.send(close(1000))
        assert await read_to_the_end(client) == 1000


async def live_mute(place):
    """Answer no Ping: 4008."""
    async with place.websocket() as client:
        while (received := await client.read_frame()).opcode != 8:
            pass
        assert int.from_bytes(received.payload[:2], "big") == 4008, received


async def ask_half(place):
    """Begin a request; vanish, or wait for 408."""
    async with place.connection() as client:
        whole = request(headers=[("X-Fill", "f" * place.random.randrange(500))])
        await client.send(whole[: place.random.randrange(len(whole) - 1)])
        if place.chance(0.7):
            client.reset()
            return
        assert (await client.read_response()).status == 408
        await client.at_end()


async def ask_slowly(place):
    """Trickle a request; it may or may not be whole in time."""
    async with place.connection() as client:
        with contextlib.suppress(ConnectionError):
            await client.send_slowly(request(), place.random.randrange(1, 9))
        response = await client.read_response()
        assert response.status in (101, 408), response
        client.reset()


async def ask_nonsense(place):
    """Send what is no request: it is refused, or never ends."""
    async with place.connection() as client:
        nonsense = [
            place.random.randbytes(300),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
            request(sec_websocket_version="8"),
            request(method="POST"),
            request(without=("Host",)),
            request(headers=[("X-Long", "l" * 20_000)]),
            request(headers=[("X-Many", "m")] * 150),
            b"GET / HTTP/1.0\r\n\r\n",
        ]
        await client.send(place.random.choice(nonsense))
        assert 400 <= (await client.read_response()).status < 500
        await client.at_end()


async def knock_and_run(place):
    """Connect and reset, many times; at times after some noise, where TLS or HTTP was due."""
    for _ in range(20):
        client = await RawClient.open(place.address)
        if place.chance(0.3):
            await client.send(place.random.randbytes(place.random.randrange(1, 100)))
        client.reset()


def compressing(place):
    """Connect another library's client, which offers compression."""
    options = {} if place.tls is None else {"ssl": place.tls, "server_hostname": "localhost"}
    return websockets.connect(
        f"{'ws' if place.tls is None else 'wss'}://{place.address}",
        compression="deflate",
        ping_interval=None,
        max_size=None,
        **options,
    )


async def live_compressed(place):
    """Publish compressed messages, and read what comes."""
    async with compressing(place) as client:
        channel = place.random.choice(CHANNELS)
        await client.send(json.dumps({"event": "subscribe", "channel": channel, "id": 1}))
        for number in range(place.random.randrange(10)):
            data = f"compressible {number} " * place.random.randrange(1, 300)
            message = {"event": "message", "channel": channel, "data": data, "id": number}
            await client.send(json.dumps(message))
        await client.send('{"ping":1,"id":"last"}')
        while json.loads(await within(client.recv())).get("id") != "last":
            pass
        if place.chance(0.3):
            client.transport.abort()


async def live_with_a_bomb(place):
    """Send a little that stands for much: 1009."""
    async with compressing(place) as client:
        await client.send("0" * 3_000_000)
        await within(client.wait_closed())
        assert client.close_code == 1009, client.close_code


# How many of a hundred clients live so.
LIVES = {
    live_politely: 12,
    live_in_small_pieces: 6,
    live_and_vanish: 12,
    live_half_open: 4,
    live_and_stall: 6,
    live_and_flood: 2,
    live_and_break_the_protocol: 8,
    live_with_odd_json: 5,
    live_with_too_many_channels: 3,
    live_in_fragments: 5,
    live_with_large_messages: 5,
    live_mute: 4,
    ask_half: 6,
    ask_slowly: 3,
    ask_nonsense: 6,
    knock_and_run: 3,
    live_compressed: 8,
    live_with_a_bomb: 2,
}
