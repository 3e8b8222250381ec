"""How connections end: every status code of protocol §7, and RFC 6455 §5.5.1, §7."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from conftest import until
from raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    text,
)

MESSAGE_LIMIT = 70_000


class Ends:
    """The code and reason of each client that ended, as the `disconnect` hook sees them."""

    def __init__(self):
        self.seen = []

    def __call__(self, server):
        """Watch a server; return it."""
        server.on("disconnect")(self._disconnected)
        return server

    def _disconnected(self, client):
        self.seen.append((client.close_code, client.close_reason))


@pytest.fixture
def ends():
    return Ends()


async def closed_with(client, code):
    """Check that a Close with this code and a short reason comes next, and then TCP ends."""
    received, reason = await client.receive_close()
    assert received == code
    assert 0 < len(reason.encode()) <= 123
    assert "\n" not in reason
    assert await client.at_end()


# --- The closing handshake


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (close(1000, "bye"), 1000, "bye"),
        (close(1001), 1001, ""),
        (close(1007), 1007, ""),
        (close(1011), 1011, ""),
        (close(1014), 1014, ""),
        (close(3000), 3000, ""),
        (close(4999, "é" * 61), 4999, "é" * 61),
        (close(1000, "x" * 123), 1000, "x" * 123),
    ],
)
async def test_close_is_answered_with_its_code_and_tcp_ends(
    make_server, serve, connect, ends, sent, code, reason
):
    client = await connect(await serve(ends(make_server())))
    await client.send(sent)
    assert (await client.receive_close())[0] == code
    assert await client.at_end()
    assert ends.seen == [(code, reason)]


async def test_close_without_code_is_answered_likewise_and_reported_as_1005(
    make_server, serve, connect, ends
):
    client = await connect(await serve(ends(make_server())))
    await client.send(close())
    assert await client.receive_close() == (None, "")
    assert await client.at_end()
    assert ends.seen == [(1005, "")]


async def test_what_follows_a_close_is_ignored(server, connect):
    client, other = await connect(server), await connect(server)
    await client.send(close(1000) + text({"message": "late"}) + frame(PING) + frame(3))
    assert await client.receive_close() == (1000, "")
    assert await client.at_end()
    await other.fence()


async def test_client_that_has_left_is_nobody_any_more(server, connect):
    client, other = await connect(server), await connect(server)
    await client.ask({"event": "subscribe", "channel": "c"})
    await client.send(close(1000))
    await client.receive_close()
    assert list(server.clients) == [other.id]
    assert server.channels == {}
    await other.send({"message": 1, "id": 1})
    assert (await other.receive())["type"] == "message"
    assert (await other.receive())["delivered"] == 1


async def test_message_before_a_close_is_still_delivered(server, connect):
    client, other = await connect(server), await connect(server)
    await client.send(text({"to": other.id, "message": 1, "id": 1}) + close(1000))
    assert (await other.receive())["message"] == 1
    assert (await client.receive())["delivered"] == 1
    assert await client.receive_close() == (1000, "")


async def test_message_in_front_of_a_close_reaches_its_sender_too(server, connect):
    client, other = await connect(server), await connect(server)
    await client.ask({"event": "subscribe", "channel": "c"})
    await client.send(
        text({"message": 1}) + text({"event": "message", "channel": "c", "data": 2}) + close(1000)
    )
    assert (await other.receive())["message"] == 1
    assert (await client.receive())["message"] == 1
    assert (await client.receive())["data"] == 2
    assert await client.receive_close() == (1000, "")


async def test_what_is_subscribed_in_front_of_a_close_is_forgotten(server, connect):
    client, other = await connect(server), await connect(server)
    await client.send(text({"event": "subscribe", "channel": "c", "id": 1}) + close(1000))
    while (await client.read_frame()).opcode != CLOSE:
        pass
    assert server.channels == {}
    assert (await other.ask({"event": "message", "channel": "c", "data": 1}))["delivered"] == 0


async def test_server_waits_for_the_answer_to_its_close_and_ignores_all_else(server, connect):
    client, other = await connect(server), await connect(server)
    assert server.disconnect(client.id)
    assert (await client.receive_close())[0] == 4000
    await client.send(text({"message": "late"}), frame(PING, b"late"))
    await other.fence()
    await client.send(close(4000))
    assert await client.at_end()
    await other.fence()


async def test_peer_that_never_answers_a_close_is_ended_by_the_close_timeout(serve, connect):
    server = await serve(close_timeout=0.1)
    client = await connect(server)
    server.disconnect(client.id)
    assert (await client.receive_close())[0] == 4000
    assert await client.at_end()
    await until(lambda: server._running.engine.connection_count == 0)
    assert server.counters["close_timeouts"] == 1


async def test_peer_that_answers_but_keeps_tcp_is_ended_by_the_close_timeout(serve, connect):
    server = await serve(close_timeout=0.1)
    client = await connect(server)
    await client.send(close(1000))
    assert await client.receive_close() == (1000, "")
    await until(lambda: server._running.engine.connection_count == 0)


# --- TCP ends by itself


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_tcp_that_ends_without_a_close_is_reported_as_1006(
    make_server, serve, connect, ends, how
):
    server = await serve(ends(make_server()))
    client, other = await connect(server), await connect(server)
    getattr(client, how)()
    await until(lambda: ends.seen)
    assert ends.seen == [(1006, "")]
    assert list(server.clients) == [other.id]
    assert server.counters["lost"] == 1
    await other.fence()


async def test_message_in_front_of_the_end_of_tcp_is_delivered(server, connect):
    client, other = await connect(server), await connect(server)
    await client.send(text({"to": other.id, "message": 1}) + text({"message": 2})[:5])
    client.end()
    assert (await other.receive())["message"] == 1
    await other.fence()


async def test_reset_in_the_middle_of_everything_harms_nobody(server, connect):
    other = await connect(server)
    await other.ask({"event": "subscribe", "channel": "c"})
    for _ in range(20):
        client = await connect(server)
        await client.ask({"event": "subscribe", "channel": "c"})
        await client.send(text({"event": "message", "channel": "c", "data": "x" * 50_000}))
        assert (await other.receive())["channel"] == "c"
        client.reset()
    await until(lambda: len(server.clients) == 1)
    answer = await other.ask({"event": "message", "channel": "d", "data": 1})
    assert answer["delivered"] == 0
    assert server.channels == {"c": 1}


# --- 1001: the server stops


async def test_everyone_is_closed_with_1001_when_the_server_stops(make_server, connect, ends):
    server = ends(make_server())
    async with server:
        clients = [await connect(server) for _ in range(3)]
        leaving = [asyncio.ensure_future(answer_close(client)) for client in clients]
    assert [await each for each in leaving] == [1001] * 3
    assert [code for code, _ in ends.seen] == [1001] * 3


async def answer_close(client):
    """Behave as a sound client does when the server closes; return the code."""
    code, reason = await client.receive_close()
    assert reason
    await client.send(close(code))
    assert await client.at_end()
    await client.aclose()
    return code


async def test_what_is_queued_goes_before_the_1001(make_server, connect):
    async with make_server() as server:
        client = await connect(server)
        for n in range(100):
            server.broadcast(n)
        receiving = asyncio.ensure_future(everything(client))
    messages, code = await receiving
    assert len(messages) == 100
    assert code == 1001


async def everything(client):
    """Read to the Close, and leave."""
    received = await client.receive_until_close()
    await client.aclose()
    return received


async def test_handshake_under_way_is_503_when_the_server_stops(make_server, dial):
    async with make_server(close_timeout=0.1) as server:
        client = await dial(server)
        await client.send(b"GET / HTTP/1.1\r\n")
        await until(lambda: server.counters["accepted"] == 1)
    assert (await client.read_response()).status == 503


async def test_peers_that_never_answer_do_not_keep_the_server(make_server, connect):
    async with make_server(close_timeout=0.1) as server:
        client = await connect(server)
        member = server.clients[client.id]
        # Read at once: the reset that ends a peer's time takes with it what asyncio holds unread.
        closing = asyncio.create_task(client.receive_close())
    assert (await closing)[0] == 1001
    assert await client.at_end()
    # Not because nobody holds the engine any more.
    assert not member.send(1)


# --- 1002: protocol errors (RFC 6455 §5)

BROKEN = {
    "unmasked frame": frame(TEXT, "x", mask=None),
    "unmasked empty frame": frame(TEXT, mask=None),
    "RSV1": frame(TEXT, "x", reserved=4),
    "RSV2": frame(TEXT, "x", reserved=2),
    "RSV3": frame(TEXT, "x", reserved=1),
    "RSV1 on a control frame": frame(PING, reserved=4),
    "opcode 3": frame(3),
    "opcode 7": frame(7),
    "opcode 11": frame(11),
    "opcode 15": frame(15),
    "lone continuation": frame(CONTINUATION, "x"),
    "lone first continuation": frame(CONTINUATION, "x", fin=False),
    "text inside a message": frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
    "binary inside a message": frame(TEXT, "a", fin=False) + frame(BINARY, "b"),
    "ping over 125 bytes": frame(PING, b"x" * 126),
    "pong over 125 bytes": frame(PONG, b"x" * 126),
    "close over 125 bytes": frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124),
    "ping in fragments": frame(PING, fin=False),
    "close in fragments": frame(CLOSE, fin=False),
    "16-bit length of 125": frame(TEXT, "x" * 125, length_bytes=2),
    "16-bit length of 0": frame(TEXT, length_bytes=2),
    "64-bit length of 65535": frame(BINARY, b"x" * 65_535, length_bytes=8),
    "64-bit length of 0": frame(TEXT, length_bytes=8),
    "length with its top bit": frame(BINARY, b"x", length=1 << 63),
    "length of all ones": frame(BINARY, b"x", length=(1 << 64) - 1),
    "close of 1 byte": frame(CLOSE, b"\x03"),
    **{
        f"close {code}": close(code)
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65535]
    },
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_broken_frame_is_1002(make_server, serve, connect, ends, sent):
    server = await serve(ends(make_server()))
    client, other = await connect(server), await connect(server)
    await client.send(sent)
    await closed_with(client, 1002)
    assert [code for code, _ in ends.seen] == [1002]
    assert server.counters["failed"] == 1
    await other.fence()


@pytest.mark.parametrize("sent", [BROKEN["RSV1"], BROKEN["unmasked frame"], BROKEN["opcode 3"]])
async def test_broken_frame_is_refused_at_its_second_byte(server, connect, sent):
    client = await connect(server)
    await client.send(sent[:2])
    await closed_with(client, 1002)


# --- 1007: text that is not UTF-8 (RFC 6455 §8.1)

NOT_UTF8 = {
    "lone continuation byte": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "no such byte": b"\xff",
    "cut short": b'{"message":"\xc3',
    "in the middle": b'{"message":"\xff"}',
}


@pytest.mark.parametrize("payload", NOT_UTF8.values(), ids=NOT_UTF8)
async def test_text_that_is_not_utf8_is_1007(make_server, serve, connect, ends, payload):
    server = await serve(ends(make_server()))
    client, other = await connect(server), await connect(server)
    await client.send(frame(TEXT, payload))
    await closed_with(client, 1007)
    assert [code for code, _ in ends.seen] == [1007]
    await other.fence()


async def test_character_cut_in_two_fragments_is_sound_and_an_unfinished_one_is_1007(
    server, connect
):
    client = await connect(server)
    await client.send(frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa9"))
    assert (await client.receive())["message"] == "é"
    await client.send(frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION))
    await closed_with(client, 1007)


@pytest.mark.parametrize("bad_at", [0, 50_000, 150_000, 299_999])
async def test_large_text_is_1007_wherever_it_is_bad(server, connect, bad_at):
    client = await connect(server)
    payload = bytearray(b"x" * 300_000)
    payload[bad_at] = 0xFF
    await client.send_slowly(frame(TEXT, bytes(payload)), 40_000)
    await closed_with(client, 1007)


async def test_bad_text_is_refused_before_its_frame_is_whole(server, connect):
    client = await connect(server)
    await client.send(frame(TEXT, b"\xff" + b"x" * 200_000)[:1000])
    await closed_with(client, 1007)


async def test_reason_of_a_close_that_is_not_utf8_is_1007(server, connect):
    client = await connect(server)
    await client.send(frame(CLOSE, struct.pack("!H", 1000) + b"\xff"))
    await closed_with(client, 1007)


async def test_binary_message_need_not_be_utf8(server, connect):
    client = await connect(server)
    await client.send(frame(BINARY, b"\xff\xfe"))
    assert (await client.receive())["code"] == "unsupported_binary"


# --- 1009: too big


async def test_message_of_the_largest_size_is_taken(serve, connect):
    client = await connect(await serve(max_buffer_size=MESSAGE_LIMIT))
    await client.send(text("x" * MESSAGE_LIMIT))
    assert len((await client.receive())["message"]) == MESSAGE_LIMIT
    half = MESSAGE_LIMIT // 2
    await client.send(frame(TEXT, "y" * half, fin=False), frame(CONTINUATION, "y" * half))
    assert len((await client.receive())["message"]) == MESSAGE_LIMIT


TOO_BIG = {
    "one frame": frame(TEXT, length=MESSAGE_LIMIT + 1),
    "binary": frame(BINARY, length=MESSAGE_LIMIT + 1),
    "huge": frame(BINARY, length=(1 << 63) - 1),
    "two fragments": frame(TEXT, "x" * 60_000, fin=False) + frame(CONTINUATION, length=10_001),
    "many fragments": frame(TEXT, fin=False)
    + frame(CONTINUATION, "x" * 1000, fin=False) * 70
    + frame(CONTINUATION, length=1, fin=False),
}


@pytest.mark.parametrize("sent", TOO_BIG.values(), ids=TOO_BIG)
async def test_message_over_the_limit_is_1009_at_its_header(
    make_server, serve, connect, ends, sent
):
    server = await serve(ends(make_server(max_buffer_size=MESSAGE_LIMIT)))
    client, other = await connect(server), await connect(server)
    await client.send(sent)
    await closed_with(client, 1009)
    assert [code for code, _ in ends.seen] == [1009]
    await other.fence()


async def test_close_reaches_a_client_that_still_sends_its_large_message(serve, connect):
    client = await connect(await serve(max_buffer_size=MESSAGE_LIMIT))
    await client.send(frame(TEXT, length=10_000_000), b"x" * 1_000_000)
    assert (await client.receive_close())[0] == 1009
    await client.send(b"x" * 1_000_000)
    assert await client.at_end()


# --- What came before a fault


@pytest.mark.parametrize("fault", [frame(3), frame(TEXT, b"\xff"), frame(TEXT, length=1 << 40)])
async def test_answers_to_what_came_before_a_fault_go_before_the_close(server, connect, fault):
    client, other = await connect(server), await connect(server)
    sent = text({"to": other.id, "message": 1, "id": 1}) + frame(PING, b"p")
    await client.send(sent + text({"ping": 1, "id": 2}) + fault + text({"message": "late"}))
    received = [await client.read_frame() for _ in range(4)]
    assert received[-1].opcode == CLOSE
    assert sorted(each.opcode for each in received[:-1]) == [TEXT, TEXT, PONG]
    assert await client.at_end()
    assert (await other.receive())["message"] == 1
    await other.fence()


async def test_faults_and_what_comes_before_them_may_be_cut_anywhere(serve, connect):
    server = await serve(max_buffer_size=50)
    sent = (
        text({"ping": 1, "id": 1})
        + frame(TEXT, '{"ping":1,', fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, '"id":2}')
        + frame(BINARY, b"x" * 51)
    )
    for cut in range(1, len(sent)):
        client = await connect(server)
        await client.send_slowly(sent[:cut], cut)
        await client.send(sent[cut:])
        messages, code = await client.receive_until_close()
        assert (messages, code) == (
            ['{"type":"pong","id":1}', '{"type":"pong","id":2}'],
            1009,
        ), cut
        await client.aclose()


# --- 1013: slow readers


async def test_slow_reader_is_1013_and_the_others_notice_nothing(make_server, serve, connect, ends):
    server = await serve(ends(make_server(max_send_buffer=65_536)))
    slow = await connect(server, receive_buffer=4096)
    other = await connect(server)
    sent = 0
    while not ends.seen:
        server.broadcast("x" * 30_000)
        sent += 1
        assert len((await other.receive())["message"]) == 30_000
        assert sent < 1000
    assert ends.seen == [(1013, ends.seen[0][1])]
    assert server.counters["slow_readers"] == 1
    assert list(server.clients) == [other.id]
    messages, code = await slow.receive_until_close()
    assert code == 1013
    assert 0 < len(messages) < sent
    await other.fence()


async def test_slow_reader_that_never_reads_is_ended_by_the_close_timeout(serve, connect):
    server = await serve(max_send_buffer=65_536, close_timeout=0.1)
    await connect(server, receive_buffer=4096)
    other = await connect(server)
    while len(server.clients) == 2:
        server.broadcast("x" * 30_000)
        await other.receive()
    await until(lambda: server._running.engine.connection_count == 1)
    await other.fence()


@pytest.mark.one_shard("whether it reads too slowly is known to the thread that sends to it")
async def test_queue_of_a_slow_reader_is_bounded(serve, connect):
    server = await serve(max_send_buffer=65_536)
    slow = await connect(server, receive_buffer=4096)
    (member,) = server.clients.values()
    most = 0
    while server.send(member, "x" * 1000):
        most = max(most, server._running.engine.queued_bytes(member.handle))
    assert most <= 65_536 + 1100
    await until(lambda: member.id not in server.clients)
    await slow.receive_until_close()


async def test_client_that_does_not_read_its_own_echo_is_slowed_down_and_loses_nothing(
    serve, connect
):
    server = await serve()
    client = await connect(server, receive_buffer=4096)
    (member,) = server.clients.values()
    count = 400

    async def send_all():
        for n in range(count):
            await client.send({"message": [n, "x" * 30_000]})

    sending = asyncio.ensure_future(send_all())
    await until(lambda: server._running.engine.queued_bytes(member.handle) > 500_000)
    for n in range(count):
        assert (await client.receive())["message"][0] == n
    await sending
    await client.fence()


# --- slow_reader = "drop"


@pytest.mark.one_shard("whether it reads too slowly is known to the thread that sends to it")
async def test_slow_reader_misses_messages_but_stays_and_no_other_does(serve, connect, caplog):
    caplog.set_level("WARNING", "rakit_ws")
    server = await serve(max_send_buffer=65_536, slow_reader="drop")
    slow = await connect(server, receive_buffer=4096)
    other = await connect(server)
    (member, _) = server.clients.values()
    sent = 0
    while server.counters["messages_dropped"] < 5:
        assert server.broadcast(f"{sent} " + "x" * 30_000) in (1, 2)
        assert (await other.receive())["message"].startswith(f"{sent} ")
        sent += 1
        assert sent < 1000
    assert server.broadcast("last") == 1, "what is dropped is not counted as delivered"
    assert not member.send("for the slow one")
    assert server.counters["slow_readers"] == 0
    dropped = server.counters["messages_dropped"]
    got = [int((await slow.receive())["message"].split()[0]) for _ in range(sent + 1 - dropped + 1)]
    assert got == sorted(set(got)), "in order, nothing twice"
    await until(lambda: member.send("again"))
    assert (await slow.receive())["message"] == "again"
    lines = [line for line in caplog.messages if line.startswith("messages dropped")]
    assert len(lines) == 1
    assert f"id={member.id}" in lines[0]


@pytest.mark.one_shard("whether it reads too slowly is known to the thread that sends to it")
async def test_close_reaches_a_client_whose_messages_are_dropped(serve, connect):
    server = await serve(max_send_buffer=65_536, slow_reader="drop")
    slow = await connect(server, receive_buffer=4096)
    (member,) = server.clients.values()
    while server.send(member, "x" * 10_000):
        pass
    assert server.disconnect(member.id)
    assert (await slow.receive_until_close())[1] == 4000


# --- 4000, 4008, and what the application chooses


async def test_client_disconnected_by_the_server_is_4000(make_server, serve, connect, ends):
    server = await serve(ends(make_server()))
    client = await connect(server)
    assert server.disconnect(client.id)
    assert (await client.receive_close())[0] == 4000
    await client.send(close(4000))
    assert await client.at_end()
    assert ends.seen[0][0] == 4000
    assert not server.disconnect(client.id)


@pytest.mark.parametrize("code", [1000, 1008, 1011, 3000, 4001, 4999])
async def test_application_may_close_with_a_code_and_reason_of_its_own(server, connect, code):
    client = await connect(server)
    (member,) = server.clients.values()
    assert member.disconnect(code, "because")
    assert not member.disconnect(code, "twice")
    assert await client.receive_close() == (code, "because")


async def test_reason_that_is_too_long_is_cut_at_a_character(server, connect):
    client = await connect(server)
    server.disconnect(client.id, 4000, "é" * 100)
    assert await client.receive_close() == (4000, "é" * 61)


async def test_silent_client_is_pinged_and_then_4008(make_server, serve, connect, ends):
    server = await serve(ends(make_server(ping_interval=0.05, ping_timeout=0.2)))
    client = await connect(server)
    received = await client.read_frame()
    assert received.opcode == PING
    while received.opcode == PING:
        received = await client.read_frame()
    assert received.opcode == CLOSE
    assert int.from_bytes(received.payload[:2], "big") == 4008
    assert received.payload[2:]
    await until(lambda: ends.seen)
    assert ends.seen[0][0] == 4008
    assert server.counters["ping_timeouts"] == 1


async def test_client_that_answers_pings_stays(serve, connect):
    server = await serve(ping_interval=0.1, ping_timeout=0.8)
    client = await connect(server)
    silent = await connect(server)
    while (received := await silent.read_frame()).opcode == PING:
        answer = await client.read_frame()
        assert answer.opcode == PING
        await client.send(frame(PONG, answer.payload))
    assert received.opcode == CLOSE
    assert list(server.clients) == [client.id]


async def test_any_traffic_counts_as_a_sign_of_life(serve, connect):
    server = await serve(ping_interval=0, ping_timeout=0.8)
    busy, sender, silent = [await connect(server) for _ in range(3)]
    large = text({"to": busy.id, "message": "x" * 1_000_000})
    await sender.send(large[:1000])
    sent = 1000
    ended = asyncio.ensure_future(silent.receive_close())
    while not ended.done():
        await busy.fence()
        await sender.send(large[sent : sent + 1000])
        sent += 1000
        await asyncio.sleep(0.02)
    assert ended.result()[0] == 4008
    await sender.send(large[sent:])
    assert (await busy.receive())["message"] == "x" * 1_000_000


async def test_nobody_is_pinged_or_timed_out_where_that_is_off(serve, connect):
    server = await serve(ping_interval=0, ping_timeout=0)
    client = await connect(server)
    await asyncio.sleep(0.2)
    await client.fence()
    assert server.counters["pings_sent"] == 0


async def test_client_whose_hook_is_slow_is_not_taken_for_silent(make_server, serve, connect):
    server = make_server(ping_interval=0.1, ping_timeout=0.8)
    may_go_on = asyncio.Event()

    @server.on("receive")
    async def received(client, opcode, payload):
        await may_go_on.wait()

    await serve(server)
    # More than the mailbox holds, so that the server stops reading.
    client = await connect(server)
    for n in range(100):
        await client.send({"ping": 1, "id": n})
    silent = await connect(server)
    while (await silent.read_frame()).opcode != CLOSE:
        pass
    may_go_on.set()
    answers = 0
    while answers < 100:
        received_frame = await client.read_frame()
        assert received_frame.opcode in (TEXT, PING)
        answers += received_frame.opcode == TEXT


# --- Ping and pong (RFC 6455 §5.5.2)


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
async def test_ping_is_answered_with_its_payload(server, connect, payload):
    client = await connect(server)
    await client.send(frame(PING, payload))
    pong = await client.read_frame()
    assert (pong.opcode, pong.payload, pong.fin) == (PONG, payload, True)


async def test_unasked_pong_is_ignored(server, connect):
    client = await connect(server)
    await client.send(frame(PONG, b"x"), frame(PONG))
    await client.fence()


# --- Anything at all


async def test_random_bytes_end_a_connection_soundly_and_harm_nobody(serve, connect, dial):
    server = await serve(max_buffer_size=1000, close_timeout=0.5)
    other = await connect(server)
    dice = random.Random(6455)
    for _ in range(100):
        client = await connect(server)
        await client.send(dice.randbytes(200) + frame(3))
        while (await client.read_frame()).opcode != CLOSE:
            pass
        await client.aclose()
    for _ in range(100):
        client = await dial(server)
        await client.send(dice.randbytes(200) + b"\r\n\r\n")
        assert (await client.read_response()).status in (400, 431)
        await client.aclose()
    await other.fence()
