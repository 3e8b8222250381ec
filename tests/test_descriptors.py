"""Life at the descriptor limit: a server in a process of its own that may have 64 of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from application import app
from identities import authority
from raw_client import RawClient, request

DESCRIPTORS_APP = """
import resource

from rakit_ws import Server

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
server = Server(
    port=0, handshake_timeout=3600, close_timeout=0.5, presence={"enabled": False}, SETTINGS
)


@server.on("start")
def start(server):
    print(server.addresses[0], flush=True)


@server.command("state")
def state(client):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {**server.counters, "cpu_s": usage.ru_utime + usage.ru_stime}


raise SystemExit(server.run())
"""


@pytest.fixture
async def dial():
    """Open TCP connections to an address; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_tcp(address):
            client = await RawClient.open(address)
            stack.push_async_callback(client.aclose)
            return client

        yield open_tcp


@pytest.fixture
def join(dial):
    """Connect clients to an address, and read their welcome."""

    async def open_websocket(address):
        member = await dial(address)
        await member.handshake()
        assert (await member.receive())["type"] == "welcome"
        return member

    return open_websocket


async def state_of(member):
    return (await member.ask({"command": "state"}))["result"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("max_connections=1000", id="descriptors"),
        pytest.param("", id="the limit that follows from them"),
    ],
)
async def test_silent_crowd_does_not_keep_a_newcomer_out(tmp_path, dial, join, settings):
    with app(tmp_path, DESCRIPTORS_APP.replace("SETTINGS", settings)) as (process, address):
        member = await join(address)
        crowd = [await dial(address) for _ in range(200)]
        newcomer = await join(address)
        await newcomer.fence()
        assert (await state_of(member))["handshakes_evicted"] > 0
        for client in crowd:
            await client.aclose()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "no request yet, and others wait for the place" in output
    assert "Traceback" not in output


async def test_out_of_descriptors_a_newcomer_is_told_and_the_others_work_on(tmp_path, dial, join):
    settings = "max_connections=1000"
    with app(tmp_path, DESCRIPTORS_APP.replace("SETTINGS", settings)) as (process, address):
        members = [await join(address)]
        while not (await state_of(members[0]))["refused_unread"]:
            client = await dial(address)
            # A request that crosses the refusal may turn it into a reset.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await client.send(request())
                if (await client.read_response()).status == 101:
                    await client.receive()
                    members.append(client)
        newcomer = await dial(address)
        response = await newcomer.read_response()
        assert (response.status, response.body) == (503, "too many open files\n")
        begin = await state_of(members[0])
        await asyncio.sleep(0.5)
        end = await state_of(members[0])
        # A server that spins would have burnt half a second.
        assert end["cpu_s"] - begin["cpu_s"] < 0.2
        assert end["opened"] < 64
        await members.pop().aclose()
        while not (await state_of(members[0]))["closed"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        await (await join(address)).fence()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "too many open files" in output
    assert "Traceback" not in output


async def test_out_of_descriptors_nothing_in_plain_text_is_said_to_a_newcomer_of_tls(
    tmp_path, dial
):
    identity = authority().issue(tmp_path)
    settings = f"max_connections=1000, tls={identity.settings}"
    source = DESCRIPTORS_APP.replace("SETTINGS", settings)
    async with contextlib.AsyncExitStack() as stack:
        process, address = stack.enter_context(app(tmp_path, source))

        async def join():
            member = await RawClient.open(address, tls=identity.context())
            stack.push_async_callback(member.aclose)
            await member.handshake()
            await member.receive()
            return member

        members = [await join()]
        while not (await state_of(members[0]))["refused_unread"]:
            # The server ends TCP in the middle of the TLS handshake.
            with contextlib.suppress(ConnectionError):
                members.append(await join())
        newcomer = await dial(address)
        assert await newcomer.at_end()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "too many open files" in output
    assert "Traceback" not in output
