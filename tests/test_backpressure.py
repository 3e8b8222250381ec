"""Publishers wait for those who read, for a while; and a slow reader hurts only itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from conftest import until
from raw_client import text

MIB = 1 << 20


def large(n, size=MIB - 1000):
    return text({"event": "message", "channel": "c", "data": f"{n:04}" + "x" * size})


async def hearers(connect, server, count, **options):
    clients = [await connect(server, **options) for _ in range(count)]
    for client in clients:
        await client.ask({"event": "subscribe", "channel": "c"})
    return clients


async def numbers(client, count):
    return [int((await client.receive())["data"][:4]) for _ in range(count)]


async def test_burst_of_large_messages_closes_no_client_that_reads(serve, connect):
    server = await serve()
    publisher = await connect(server)
    readers = await hearers(connect, server, 3)
    burst = b"".join(large(n) for n in range(40))
    sending = asyncio.ensure_future(publisher.send(burst))
    received = await asyncio.gather(*(numbers(reader, 40) for reader in readers))
    await sending
    assert received == [list(range(40))] * 3
    assert server.counters["slow_readers"] == server.counters["closed"] == 0


@pytest.mark.parametrize("bound", [MIB, MIB // 4, MIB // 16])
async def test_burst_of_several_publishers_closes_no_client_that_reads(serve, connect, bound):
    server = await serve(max_send_buffer=bound)
    publishers = [await connect(server) for _ in range(10)]
    readers = await hearers(connect, server, 2)
    size = bound - 1000
    bursts = [b"".join(large(100 * n + each, size) for each in range(4)) for n in range(10)]
    sending = [
        asyncio.ensure_future(publisher.send(burst))
        for publisher, burst in zip(publishers, bursts, strict=True)
    ]
    received = await asyncio.gather(*(numbers(reader, 40) for reader in readers))
    await asyncio.gather(*sending)
    for seen in received:
        for n in range(10):
            assert [each for each in seen if each // 100 == n] == [100 * n + k for k in range(4)]
    assert server.counters["closed"] == 0


async def test_one_that_stalls_is_closed_and_the_others_miss_nothing(serve, connect, logged_errors):
    server = await serve(close_timeout=0.2)
    publisher = await connect(server)
    readers = await hearers(connect, server, 3)
    await hearers(connect, server, 1, receive_buffer=4096)
    burst = b"".join(large(n) for n in range(40))
    sending = asyncio.ensure_future(publisher.send(burst))
    received = await asyncio.gather(*(numbers(reader, 40) for reader in readers))
    await sending
    assert received == [list(range(40))] * 3
    await until(lambda: server.counters["closed"] == 1)
    assert server.counters["slow_readers"] == server.counters["readers_given_up"] == 1
    assert logged_errors() == []


async def test_one_that_stalls_among_many_costs_the_others_nothing(serve, connect):
    # The figures are those of benches/stalled.py; here: what is counted, not what a clock says.
    server = await serve(max_memory=64 * MIB)
    engine = server._running.engine
    publisher = await connect(server)
    readers = await hearers(connect, server, 20)
    (stalled,) = await hearers(connect, server, 1, receive_buffer=4096)
    count = most = 0
    while not server.counters["slow_readers"]:
        await publisher.send(large(count, 60_000))
        for reader in readers:
            assert (await reader.receive())["data"].startswith(f"{count:04}")
        most = max(most, engine.memory_held)
        count += 1
    # One queue is full, and that is all that is held.
    assert most < 2 * MIB + 100 * 4096
    assert server.counters["closed"] == server.counters["readers_given_up"] == 1
    assert server.counters["publishers_restrained"] <= 1
    await stalled.aclose()


async def test_dear_messages_of_many_floods_come_in_short_turns(serve, make_server, connect):
    # A blocking hook of 0.2 ms at least: on a slower machine turns are shorter still.
    server = make_server()
    handled = []

    @server.on("receive")
    def work(client, opcode, payload):
        time.sleep(0.0002)
        handled.append(client.id)
        if len(handled) == 2000:  # what messages cost is known by now
            modest.writer.write(text("me too"))
        return True

    await serve(server)
    floods = [await connect(server) for _ in range(30)]
    modest = await connect(server)
    for flood in floods:
        # More than is handled here, and less than its socket holds.
        flood.writer.write(text("x") * 1000)
    await until(lambda: modest.id in handled)
    # A turn is 4 messages where work is so dear: the rest of one round and most of another. With
    # turns of 64 messages it would be 1,900 and more, all 30,000 if nobody took turns.
    assert handled.index(modest.id) - 2000 < 600


async def test_all_that_floods_have_sent_is_handled_in_order_and_once(serve, make_server, connect):
    server = make_server()
    handled = {}

    @server.on("receive")
    def keep(client, opcode, payload):
        handled.setdefault(client.id, []).append(int(payload))
        return True

    await serve(server)
    floods = [await connect(server) for _ in range(10)]
    for flood in floods:
        flood.writer.write(b"".join(text(str(n)) for n in range(700)))
    await until(lambda: sum(map(len, handled.values())) >= 7000)
    assert handled == {flood.id: list(range(700)) for flood in floods}
