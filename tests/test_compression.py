"""
permessage-deflate (RFC 7692) over raw sockets, with Python's zlib as the other implementation.

What a decoder does with each kind of message is in `tests/deflate.rs`; other makers' clients are
in `test_peers.py`.
"""

from __future__ import annotations

import json
import zlib

import pytest

from conftest import until
from rakit_ws import Server
from raw_client import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame, request, within

TAIL = b"\x00\x00\xff\xff"
RSV1 = 4
ALONE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MESSAGE = {"words": ["selamat pagi, dunia"] * 30}


class Deflating:
    """The client's half of compression: what zlib does, with or without context."""

    def __init__(self, *, window_bits=15, takes_over=False):
        self._window_bits = window_bits
        self._takes_over = takes_over
        self._compressor = None
        self._decompressor = None

    def compress(self, payload):
        if self._compressor is None or not self._takes_over:
            self._compressor = zlib.compressobj(wbits=-15)
        data = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        assert data.endswith(TAIL)
        return data.removesuffix(TAIL)

    def decompress(self, payload):
        """Inflate byte by byte: zlib then looks back into a window of the agreed size only."""
        if self._decompressor is None or not self._takes_over:
            self._decompressor = zlib.decompressobj(wbits=-self._window_bits)
        data, pending = b"", payload + TAIL
        while pending:
            data += self._decompressor.decompress(pending, 1)
            pending = self._decompressor.unconsumed_tail
        return data + self._decompressor.decompress(b"")


def compressed_frame(payload, opcode=TEXT, codec=None):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return frame(opcode, (codec or Deflating()).compress(payload), reserved=RSV1)


async def open_with(client, offer="permessage-deflate; client_max_window_bits"):
    """Do the handshake with this offer; return what was answered to it."""
    response = await client.handshake(headers=[("Sec-WebSocket-Extensions", offer)])
    return response.headers.get("sec-websocket-extensions")


async def receive_frame(client):
    """Read a frame: opcode, whether it is marked as compressed, payload as it came."""
    first, second = await within(client.reader.readexactly(2))
    length = second & 0x7F
    if length >= 126:
        size = 2 if length == 126 else 8
        length = int.from_bytes(await within(client.reader.readexactly(size)), "big")
    assert first & 0xB0 == 0x80, "one final frame, nothing reserved but RSV1"
    return first & 0x0F, bool(first & 0x40), await within(client.reader.readexactly(length))


async def receive_message(client, codec=None):
    """Read a message, which must come compressed."""
    opcode, is_compressed, payload = await receive_frame(client)
    assert (opcode, is_compressed) == (TEXT, True)
    return json.loads((codec or Deflating()).decompress(payload))


@pytest.fixture
def compressing(serve):
    """Start a server that compresses, by default everything, and greets nobody."""

    async def start(server=None, **compression):
        settings = {"enabled": True, "minimum_size": 0, **compression}
        return await serve(server, compression=settings, welcome=False)

    return start


@pytest.fixture
def joined(compressing, dial):
    """Open a connection that compression was agreed on for."""

    async def open_one(server, offer="permessage-deflate; client_max_window_bits"):
        client = await dial(server)
        assert await open_with(client, offer) is not None
        return client

    return open_one


# --- The agreement (RFC 7692 §5, §7.1) -------------------------------------------------------


async def test_nothing_is_agreed_on_by_default(server, dial):
    client = await dial(server)
    assert await open_with(client) is None
    await client.receive()
    await client.send(frame(TEXT, b"", reserved=RSV1))
    assert await client.receive_close() == (1002, "reserved bits set")


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": {"enabled": True}},
        {"supported_extensions": ["permessage-deflate"]},
    ],
)
async def test_offer_is_accepted_where_either_option_says_so(serve, dial, settings):
    server = await serve(**settings)
    assert await open_with(await dial(server)) == ALONE
    assert server.counters["compression_agreed"] == 1


@pytest.mark.parametrize(
    ("compression", "offer", "answer"),
    [
        ({}, "permessage-deflate", ALONE),
        (
            {},
            "permessage-deflate; server_max_window_bits=10",
            f"{ALONE}; server_max_window_bits=10",
        ),
        (
            {"server_window_bits": 12, "client_window_bits": 11},
            "permessage-deflate; client_max_window_bits; server_max_window_bits=15",
            f"{ALONE}; server_max_window_bits=12; client_max_window_bits=11",
        ),
        (
            {"server_context_takeover": True, "client_context_takeover": True},
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate",
        ),
        (
            {"server_context_takeover": True, "client_context_takeover": True},
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ALONE,
        ),
        # Of several offers the first sound one.
        (
            {},
            "x-other, permessage-deflate; server_max_window_bits=7, "
            "permessage-deflate; server_max_window_bits=9, permessage-deflate",
            f"{ALONE}; server_max_window_bits=9",
        ),
    ],
)
async def test_answer_to_an_offer(compressing, dial, compression, offer, answer):
    assert await open_with(await dial(await compressing(**compression)), offer) == answer


async def test_offers_on_several_lines_are_one_list(compressing, dial):
    client = await dial(await compressing())
    lines = ["permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=9"]
    response = await client.handshake(
        headers=[("Sec-WebSocket-Extensions", line) for line in lines]
    )
    answer = response.headers["sec-websocket-extensions"]
    assert answer == f"{ALONE}; server_max_window_bits=9"


async def test_bad_offer_is_declined_and_the_connection_goes_on_without(compressing, dial):
    server = await compressing()
    client = await dial(server)
    assert await open_with(client, "permessage-deflate; server_max_window_bits") is None
    await client.send({"message": MESSAGE})
    assert (await client.receive())["message"] == MESSAGE
    assert server.counters["compression_declined"] == 1
    assert server.counters["compression_agreed"] == 0


async def test_reload_holds_for_the_next_offer_and_the_next_message(tmp_path, serve, dial):
    path = tmp_path / "settings.toml"

    def write(compression):
        presence = "[presence]\nenabled = false"
        path.write_text(f"port = 0\nwelcome = false\n{presence}\n[compression]\n{compression}")

    write("enabled = true\nminimum_size = 1000000")
    server = Server.from_config(path)
    await serve(server)
    there = await dial(server)
    assert await open_with(there) == ALONE
    server.broadcast(MESSAGE)
    assert (await receive_frame(there))[1] is False, "too small"
    write("enabled = false\nminimum_size = 0")
    server.reload()
    newcomer = await dial(server)
    assert await open_with(newcomer) is None
    server.broadcast(MESSAGE)
    assert (await receive_message(there))["message"] == MESSAGE, "what was agreed on stays"
    assert (await receive_frame(newcomer))[1] is False


async def test_bad_offer_is_no_common_extension_where_one_is_required(serve, dial):
    server = await serve(compression={"enabled": True}, extensions_required=True)
    for headers, status in [
        ([], 400),
        ([("Sec-WebSocket-Extensions", "permessage-deflate; unknown")], 400),
        ([("Sec-WebSocket-Extensions", "permessage-deflate")], 101),
    ]:
        client = await dial(server)
        await client.send(request(headers=headers))
        assert (await client.read_response()).status == status


# --- What clients send -----------------------------------------------------------------------


async def test_compressed_message_is_handled_like_any_other(compressing, joined):
    server = await compressing()
    client = await joined(server)
    await client.send(compressed_frame({"message": MESSAGE}))
    assert (await receive_message(client))["message"] == MESSAGE
    assert server.counters["messages_inflated"] == 1
    sent = len(json.dumps({"message": MESSAGE}))
    assert server.counters["bytes_after_inflating"] == sent
    assert server.counters["bytes_before_inflating"] < sent / 5


async def test_compressed_message_may_come_in_fragments_and_single_bytes(compressing, joined):
    client = await joined(await compressing())
    data = Deflating().compress(json.dumps({"message": MESSAGE}).encode())
    half = len(data) // 2
    wire = frame(TEXT, data[:half], fin=False, reserved=RSV1) + frame(CONTINUATION, data[half:])
    await client.send_slowly(wire)
    assert (await receive_message(client))["message"] == MESSAGE


@pytest.mark.parametrize("window_bits", [9, 15])
async def test_client_may_refer_to_its_earlier_messages(compressing, joined, window_bits):
    server = await compressing(client_context_takeover=True, client_window_bits=window_bits)
    client = await joined(server)
    codec = Deflating(takes_over=True)
    for _ in range(3):
        content = {"message": {"n": list(range(20))}}
        await client.send(compressed_frame(content, codec=codec))
        assert (await receive_message(client))["message"] == content["message"]
    # zlib has found them: later messages are but references.
    assert server.counters["bytes_before_inflating"] < 1.6 * len(
        Deflating().compress(json.dumps(content).encode())
    )


async def test_reference_to_an_earlier_message_is_corrupt_without_context(compressing, joined):
    client = await joined(await compressing())
    codec = Deflating(takes_over=True)
    await client.send(compressed_frame({"message": MESSAGE}, codec=codec))
    assert (await receive_message(client))["message"] == MESSAGE
    await client.send(compressed_frame({"message": MESSAGE}, codec=codec))
    assert await client.receive_close() == (1007, "compressed data is corrupt")


@pytest.mark.parametrize("takes_over", [False, True])
async def test_bomb_is_1009_and_costs_no_more_than_the_limit(serve, dial, takes_over):
    server = await serve(
        compression={"enabled": True, "client_context_takeover": takes_over},
        max_buffer_size=100_000,
        welcome=False,
    )
    client = await dial(server)
    await open_with(client)
    bomb = Deflating().compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    await client.send(frame(BINARY, bomb, reserved=RSV1))
    assert await client.receive_close() == (1009, "message too big")
    assert server.counters["bytes_after_inflating"] <= 100_000


@pytest.mark.parametrize(("size", "passes"), [(9_999, True), (10_000, True), (10_001, False)])
async def test_limit_is_that_of_the_inflated_message(make_server, serve, dial, size, passes):
    server = make_server(compression={"enabled": True}, max_buffer_size=10_000, welcome=False)
    sizes = []
    server.on("receive")(lambda client, opcode, payload: sizes.append(len(payload)) or True)
    client = await dial(await serve(server))
    await open_with(client)
    await client.send(compressed_frame(b"x" * size, BINARY))
    if passes:
        await until(lambda: sizes == [size])
    else:
        assert (await client.receive_close())[0] == 1009


@pytest.mark.parametrize(
    ("bad", "close"),
    [
        (frame(TEXT, b"\xff\xff\xff", reserved=RSV1), (1007, "compressed data is corrupt")),
        (compressed_frame(b"\xff\xfe"), (1007, "text is not UTF-8")),
        (frame(PING, b"", reserved=RSV1), (1002, "reserved bits set")),
        (frame(CLOSE, b"", reserved=RSV1), (1002, "reserved bits set")),
        (frame(TEXT, b"", reserved=2), (1002, "reserved bits set")),
    ],
)
async def test_fault_of_a_client_closes_it_with_its_code(compressing, joined, bad, close):
    client = await joined(await compressing())
    await client.send(bad)
    assert await client.receive_close() == close


# --- What clients get ------------------------------------------------------------------------


async def test_publication_is_compressed_once_for_all_with_the_same_setting(
    compressing, joined, dial
):
    server = await compressing()
    alike = [await joined(server) for _ in range(3)]
    narrow = await joined(server, "permessage-deflate; server_max_window_bits=9")
    plain = await dial(server)
    await plain.handshake()
    everyone = [*alike, narrow, plain]
    for client in everyone:
        await client.send({"event": "subscribe", "channel": "chat", "id": 1})
    for client in everyone:
        await receive_frame(client)
    before = server.counters["messages_deflated"]
    for publish in (
        lambda: server.publish("chat", MESSAGE),
        lambda: server.broadcast(MESSAGE),
    ):
        publish()
        first, *rest = [await receive_frame(client) for client in alike]
        assert first[:2] == (TEXT, True)
        assert rest == [first, first]
        shown = Deflating().decompress(first[2])
        opcode, is_compressed, payload = await receive_frame(narrow)
        assert (opcode, is_compressed) == (TEXT, True)
        assert Deflating(window_bits=9).decompress(payload) == shown
        assert (await plain.receive_text()).encode() == shown
    # Twice for two settings each.
    assert server.counters["messages_deflated"] - before == 4


@pytest.mark.parametrize("window_bits", [8, 9, 12, 15])
async def test_server_keeps_to_the_window_that_the_client_asks_for(
    compressing, joined, window_bits
):
    server = await compressing(level=9)
    client = await joined(server, f"permessage-deflate; server_max_window_bits={window_bits}")
    # Every distance back there is, up to what would not fit the window.
    blocks = [bytes(65 + (n * n + k) % 26 for n in range(k)).decode() for k in range(3, 700, 13)]
    content = [[block, block] for block in blocks]
    server.broadcast(content)
    codec = Deflating(window_bits=window_bits)
    assert (await receive_message(client, codec))["message"] == content


@pytest.mark.parametrize("window_bits", [8, 9, 15])
async def test_messages_in_context_refer_to_earlier_ones(compressing, joined, window_bits):
    server = await compressing(server_context_takeover=True)
    offer = f"permessage-deflate; server_max_window_bits={window_bits}"
    one, two = await joined(server, offer), await joined(server, offer)
    codecs = [Deflating(window_bits=window_bits, takes_over=True) for _ in range(2)]
    content = {"n": list(range(15))}
    sizes = []
    for _ in range(3):
        server.broadcast(content)
        for client, codec in zip((one, two), codecs, strict=True):
            opcode, is_compressed, payload = await receive_frame(client)
            assert (opcode, is_compressed) == (TEXT, True)
            assert json.loads(codec.decompress(payload))["message"] == content
            sizes.append(len(payload))
    assert max(sizes[2:]) < sizes[0] / 3
    # To each by itself.
    assert server.counters["messages_deflated"] == 6


@pytest.mark.parametrize(("excess", "is_compressed"), [(-1, False), (0, True), (1, True)])
async def test_smaller_messages_go_out_as_they_are(compressing, joined, excess, is_compressed):
    server = await compressing(minimum_size=300)
    one, two = await joined(server), await joined(server)
    empty = len('{"type":"broadcast","message":""}')
    server.broadcast("x" * (300 + excess - empty))
    for client in (one, two):
        assert (await receive_frame(client))[1] is is_compressed


async def test_what_does_not_get_smaller_goes_out_as_it_is(make_server, compressing, joined):
    server = make_server(compression={"enabled": True, "minimum_size": 0}, welcome=False)
    noise = bytes((n * n * 2654435761 >> 16) & 0xFF for n in range(1000))

    @server.on("receive")
    def answer(client, opcode, payload):
        client.send_frame(BINARY, noise)
        return True

    client = await joined(await compressing(server))
    await client.send({"x": 1})
    assert await receive_frame(client) == (BINARY, False, noise)
    assert server.counters["messages_sent_compressed"] == 0
    assert server.counters["bytes_saved"] == 0


async def test_control_frames_are_never_compressed(compressing, joined):
    server = await compressing()
    client = await joined(server)
    await client.send(frame(PING, b"a" * 125))
    assert await receive_frame(client) == (0xA, False, b"a" * 125)
    for one in list(server.clients.values()):
        server.disconnect(one.id)
    assert (await receive_frame(client))[:2] == (CLOSE, False)


async def test_large_message_comes_and_goes_compressed(compressing, joined):
    server = await compressing(level=6)
    client = await joined(server)
    content = [f"line {n} of a long story" for n in range(30_000)]
    await client.send(compressed_frame({"message": content}))
    assert (await receive_message_at_once(client))["message"] == content
    assert server.counters["bytes_saved"] > 500_000


async def receive_message_at_once(client):
    _, is_compressed, payload = await receive_frame(client)
    assert is_compressed
    return json.loads(zlib.decompressobj(wbits=-15).decompress(payload + TAIL))


async def test_counters_tell_what_was_saved(compressing, joined):
    server = await compressing()
    clients = [await joined(server) for _ in range(3)]
    server.broadcast(MESSAGE)
    payloads = [(await receive_frame(client))[2] for client in clients]
    whole = len(Deflating().decompress(payloads[0]))
    counters = server.counters
    assert counters["messages_deflated"] == 1
    assert counters["bytes_before_deflating"] == whole
    assert counters["bytes_after_deflating"] == len(payloads[0])
    assert counters["messages_sent_compressed"] == 3
    assert counters["bytes_saved"] == 3 * (whole - len(payloads[0]))
