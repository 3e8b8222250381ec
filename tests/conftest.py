"""What the tests that drive a server share: servers and peers that end with the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os

import pytest
from hypothesis import settings

from batches import batches  # noqa: F401 - a fixture
from rakit_backends import (  # noqa: F401 - fixtures
    mariadb_url,
    memcached_server,
    postgresql_url,
    redis_url,
)
from rakit_ws import Server, engine, process
from raw_client import RawClient, within

# The same examples everywhere, however slow the machine. `--hypothesis-profile default` has others.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# `TEST_SHARDS=2` runs all tests with so many shards, in this process and in those that the
# tests start, and without it with one, however many cores there are; what says how many itself
# is left alone.
TEST_SHARDS = int(os.environ.get("TEST_SHARDS", "1"))
shards_for = engine.shards_for
if shards_for(process.cores_allowed()) != TEST_SHARDS:
    engine.shards_for = lambda _cores: TEST_SHARDS
    os.environ["RAKIT_WS_SHARDS"] = str(TEST_SHARDS)


def pytest_collection_modifyitems(items):
    """Leave out what says why it can be so with one shard alone."""
    for item in items:
        if (marker := item.get_closest_marker("one_shard")) and TEST_SHARDS > 1:
            item.add_marker(pytest.mark.skip(reason=f"one shard: {marker.args[0]}"))


# Presence would come in between the messages that most tests are about.
QUIET = {"port": 0, "presence": {"enabled": False}}


def quiet_server(**settings):
    """Make a server on a port of the system's choice, without presence."""
    return Server(**{**QUIET, **settings})


@pytest.fixture
def make_server():
    """Make a server as `serve` starts it, for tests that add hooks first."""
    return quiet_server


@pytest.fixture
def logged_errors(caplog):
    """Return the names of the events logged at error so far; a test that asks may cause some."""
    caplog.set_level(logging.INFO, "rakit_ws")

    def names():
        return [getattr(record.msg, "name", record.msg) for record in errors(caplog)]

    return names


def errors(caplog):
    # `caplog.records` knows those of the present phase only.
    phases = ("setup", "call", "teardown")
    return [
        record
        for record in itertools.chain.from_iterable(map(caplog.get_records, phases))
        if record.name in ("rakit_ws", "asyncio") and record.levelno >= logging.ERROR
    ]


@pytest.fixture
async def serve(request, caplog):
    """
    Start servers that stop with the test.

    A test fails if a server logged an error, unless it uses `logged_errors`.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(server=None, **settings):
            return await stack.enter_async_context(server or quiet_server(**settings))

        yield start
    if "logged_errors" not in request.fixturenames:
        assert [record.getMessage() for record in errors(caplog)] == []


@pytest.fixture
async def dial(serve):
    """Open TCP connections to a server that end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_tcp(server, **options):
            client = await RawClient.open(server.addresses[0], **options)
            stack.push_async_callback(client.aclose)
            return client

        yield open_tcp


@pytest.fixture
def connect(dial):
    """Connect clients: the handshake is done and the welcome read, if there is one."""

    async def open_websocket(server, target="/", *, receive_buffer=None, tls=None, **options):
        client = await dial(server, receive_buffer=receive_buffer, tls=tls)
        await client.handshake(target, **options)
        if server.config.welcome:
            welcome = await client.receive()
            assert welcome["type"] == "welcome"
            client.id = welcome["client_id"]
        return client

    return open_websocket


@pytest.fixture
async def server(serve):
    """Start a server with default settings, but for presence."""
    return await serve()


async def until(condition):
    """Let the loop run until something is so."""

    async def poll():
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to set
            await asyncio.sleep(0.001)

    await within(poll())
