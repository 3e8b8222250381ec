"""Slowloris: 2,000 sockets that trickle their requests do not keep others out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket

import pytest

from application import app
from raw_client import RawClient, request, within

SLOW = 2000
NEWCOMERS = 20
# Its deadline is out of reach: whoever gets in does so because room was made.
APP = f"""
from rakit_ws import Server

server = Server(
    port=0, max_connections={SLOW}, handshake_timeout=3600, presence={{"enabled": False}}
)


@server.on("start")
def start(server):
    print(server.addresses[0], flush=True)


@server.command("counters")
def counters(client):
    return server.counters


raise SystemExit(server.run())
"""


@pytest.fixture
def descriptors():
    """Allow this process, and those it starts, as many as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SLOW + 400
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} descriptors, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class SlowOnes:
    """Sockets that never send a whole request, but always a little more of it."""

    def __init__(self, address, count):
        host, _, port = address.rpartition(":")
        self.sockets = [socket.create_connection((host, int(port))) for _ in range(count)]
        for each in self.sockets:
            each.setblocking(False)
            each.sendall(request()[:-2] + b"X-Slow: ")

    def trickle(self):
        """Send a byte on each; drop those that the server has ended."""
        for each in self.sockets:
            with contextlib.suppress(ConnectionError):
                each.send(b"s")

    def close(self):
        for each in self.sockets:
            each.close()


async def let_in(address, slow):
    """Try to connect until the server lets us, while the slow ones go on; return the client."""
    while True:
        client = await RawClient.open(address)
        await client.send(request())
        if (await client.read_response()).status == 101:
            assert (await client.receive())["type"] == "welcome"
            return client
        await client.aclose()
        slow.trickle()
        await asyncio.sleep(0.01)


async def test_two_thousand_slow_handshakes_do_not_keep_a_newcomer_out(descriptors, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        _, address = stack.enter_context(app(tmp_path, APP))
        slow = SlowOnes(address, SLOW)
        stack.callback(slow.close)
        clients = []
        for _ in range(NEWCOMERS):
            client = await within(let_in(address, slow))
            stack.push_async_callback(client.aclose)
            clients.append(client)
        answer = await clients[0].ask({"command": "counters"})
        counters = answer["result"]
        assert counters["opened"] == counters["handshakes_evicted"] == NEWCOMERS
        assert counters["handshake_timeouts"] == 0
        # Those who are in stay in.
        for client in clients:
            await client.fence()
