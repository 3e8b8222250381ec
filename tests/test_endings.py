"""Every state of a connection meets every end of TCP, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import struct
from pathlib import Path

import pytest

from application import app
from conftest import quiet_server, until
from raw_client import BINARY, TEXT, RawClient, close, frame, request, text, within

# Deadlines that the test waits for, and those that must not be what ends a connection.
SHORT = {
    "handshake_timeout": 0.2,
    "ping_interval": 0.1,
    "ping_timeout": 0.2,
    "close_timeout": 0.2,
}
LONG = dict.fromkeys(SHORT, 3600.0)


class Place:
    """A server, its hooks, and how to bring a client into each state."""

    def __init__(self, dial, settings):
        self.dial = dial
        self.go_on = asyncio.Event()
        self.asked = asyncio.Event()
        self.gone = []
        self.server = quiet_server(**settings)
        self.server.on("connect")(self._connecting)
        self.server.on("receive")(self._received)
        self.server.on("disconnect")(lambda client: self.gone.append(client.id))

    async def _connecting(self, client):
        if client.request.path == "/undecided":
            self.asked.set()
            await self.go_on.wait()

    def _received(self, client, opcode, payload):
        return self._wait() if client.request.path == "/paused" else None

    async def _wait(self):
        await self.go_on.wait()

    # --- states ---

    async def connected(self):
        return await self.dial(self.server)

    async def half_a_request(self):
        client = await self.dial(self.server)
        await client.send(request()[:40])
        return client

    async def undecided(self):
        client = await self.dial(self.server)
        await client.send(request("/undecided"))
        await within(self.asked.wait())
        return client

    async def refused(self):
        client = await self.dial(self.server)
        await client.send(request(method="POST"))
        assert (await client.read_response()).status == 405
        return client

    async def idle(self, target="/", **options):
        client = await self.dial(self.server, **options)
        await client.handshake(target)
        client.id = (await client.receive())["client_id"]
        if target == "/":
            await client.ask({"event": "subscribe", "channel": "c"})
        return client

    async def inside_a_header(self):
        client = await self.idle()
        await client.send(frame(TEXT, "abc")[:3])
        return client

    async def inside_a_frame(self):
        client = await self.idle()
        await client.send(frame(TEXT, "a" * 100)[:50])
        return client

    async def inside_a_large_frame(self):
        client = await self.idle()
        await client.send(frame(BINARY, bytes(200_000))[:50_000])
        return client

    async def inside_a_message(self):
        client = await self.idle()
        await client.send(frame(TEXT, "abc", fin=False))
        return client

    async def closing_by_us(self):
        client = await self.idle()
        self.server.disconnect(client.id)
        assert (await client.receive_close())[0] == 4000
        return client

    async def closing_by_it(self):
        client = await self.idle()
        await client.send(close(1000))
        assert (await client.receive_close())[0] == 1000
        return client

    async def paused(self):
        client = await self.idle("/paused")
        await client.send(*(text("x") for _ in range(70)))
        member = self.server.clients[client.id]
        await until(lambda: member.mailbox is not None and len(member.mailbox) >= 64)
        return client

    async def congested(self):
        client = await self.idle(receive_buffer=4096)
        member = self.server.clients[client.id]
        engine = self.server._running.engine
        # At once, so that its silence is not noticed before.
        while engine.queued_bytes(member.handle) < 600_000:
            member.send("x" * 10_000)
            engine.flush()
        return client


OPENED = [
    "idle",
    "inside_a_header",
    "inside_a_frame",
    "inside_a_large_frame",
    "inside_a_message",
    "closing_by_us",
    "closing_by_it",
    "paused",
    "congested",
]
STATES = ["connected", "half_a_request", "undecided", "refused", *OPENED]

# The end of a peer that is not read from is behind what it has sent: it is noticed once it is read
# from again, or with its silence.
NOTICED_LATE = {"paused", "congested"}


def open_descriptors():
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def end(client, how):
    if how == "reset":
        client.reset()
    elif how == "half close":
        client.end()


@pytest.mark.parametrize("how", ["reset", "half close", "silence"])
@pytest.mark.parametrize("state", STATES)
async def test_nothing_is_left_of_a_connection_however_it_ends(serve, dial, state, how):
    waits_for_time = how == "silence" or (how == "half close" and state in NOTICED_LATE)
    place = Place(dial, SHORT if waits_for_time else LONG)
    server = await serve(place.server)
    engine = server._running.engine
    warm = await place.dial(server)  # what is opened once for all is there now
    await warm.aclose()
    await until(lambda: not engine.connection_count)
    before, accepted = open_descriptors(), server.counters["accepted"]

    client = await getattr(place, state)()
    # A shard of its own thread may not have taken it yet: nothing would be left of what never was.
    await until(lambda: server.counters["accepted"] > accepted)
    await end(client, how)
    if state == "paused":
        await until(lambda: how != "reset" or not server.clients)
        place.go_on.set()
    await until(lambda: not engine.connection_count)
    place.go_on.set()
    await until(lambda: not server._running.tasks._tasks)
    await client.aclose()

    counters = server.counters
    opened = state in OPENED
    assert counters["accepted"] == accepted + 1
    assert counters["opened"] == counters["closed"] == opened
    assert place.gone == [client.id] * opened
    assert server.clients == {}
    assert server.channels == {}
    assert engine.open_count == 0
    assert server._running._undecided == {}
    assert len(server._running.hub.by_handle) == 0
    await until(lambda: open_descriptors() == before)
    await (await place.idle()).aclose()


def states_of_port(port):
    """Return the states of the kernel's sockets with this local port (proc(5), net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [row[3] for row in rows if int(row[1].rpartition(":")[2], 16) == port]


LISTEN, TIME_WAIT = "0A", "06"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
async def test_system_keeps_nothing_of_those_who_were_cut_off(serve, dial):
    place = Place(dial, {**SHORT, "ping_interval": 0, "ping_timeout": 0})
    server = await serve(place.server)
    crowd = [
        await getattr(place, state)()
        for state in ("congested", "closing_by_us", "closing_by_it", "refused", "congested")
    ]
    for client in crowd:
        if client.id in server.clients:
            server.disconnect(client.id)
    await until(lambda: not server._running.engine.connection_count)
    # The peers are still there, and have not closed their ends.
    port = int(server.addresses[0].rpartition(":")[2])
    assert set(states_of_port(port)) <= {LISTEN, TIME_WAIT}
    assert server.counters["close_timeouts"] == 5


# --- a stop of a process of its own

STOP_APP = """
from rakit_ws import Server

server = Server(port=0, close_timeout=3, max_connections=5000, presence={"enabled": False})


@server.on("start")
def start(server):
    print(server.addresses[0], flush=True)


floods = 0


@server.command("flood")
def flood(client):
    global floods
    floods += 1
    for _ in range(30):
        client.send("x" * 10_000)


@server.command("queued")
def queued(client):
    clients = server.clients.values()
    queued = sum(server._running.engine.queued_bytes(client.handle) for client in clients)
    return {"floods": floods, "bytes": queued}


raise SystemExit(server.run())
"""


async def test_thousands_are_closed_with_1001_though_one_never_reads(tmp_path):
    going_away = b"\x88\x12" + struct.pack("!H", 1001) + b"the server stops"
    async with contextlib.AsyncExitStack() as stack:
        process, address = stack.enter_context(app(tmp_path, STOP_APP))
        host, _, port = address.rpartition(":")

        def open_socket():
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=20))

        async def join(**options):
            client = await RawClient.open(address, **options)
            stack.push_async_callback(client.aclose)
            await client.handshake()
            await client.receive()
            return client

        crowd = [open_socket() for _ in range(2000)]
        for sock in crowd:
            sock.sendall(request())
        for sock in crowd:
            assert sock.recv(1) == b"H"
        stuck, member = await join(receive_buffer=4096), await join()
        # Until what the system holds for it is full, and what the server holds half full. One by
        # one: several at once would be more than may wait for it.
        sent, queued = 0, {"floods": 0, "bytes": 0}
        while queued["bytes"] < 500_000:
            if queued["floods"] == sent:
                await stuck.send({"command": "flood"})
                sent += 1
            queued = (await member.ask({"command": "queued"}))["result"]

        process.send_signal(signal.SIGTERM)
        for sock in crowd:
            received = b""
            while not received.endswith(going_away):
                received += (piece := sock.recv(4096))
                assert piece, received
            sock.close()
        assert await member.receive_close() == (1001, "the server stops")
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "stopped aborted=" in output
        assert "Traceback" not in output
