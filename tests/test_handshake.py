"""The opening handshake on the wire: RFC 6455 §4.2 and every row of protocol §1."""

from __future__ import annotations

import asyncio
import sys

import pytest

from conftest import until
from raw_client import (
    CONTINUATION,
    KEY,
    TEXT,
    accept_value,
    close,
    frame,
    request,
    text,
)

HEAD_LIMIT = 16 * 1024
PING = text({"ping": 1, "id": 1})
PONG = {"type": "pong", "id": 1}


async def refusal(client):
    """Read a refusal, check its form (protocol §1), and that TCP then ends."""
    response = await client.read_response()
    assert response.headers["connection"] == "close"
    assert response.headers["content-type"].startswith("text/plain")
    assert response.body.endswith("\n")
    assert len(response.body.splitlines()) == 1
    assert len(response.body) == int(response.headers["content-length"])
    assert await client.at_end()
    return response


async def status_of(client, sent):
    """Send a request; return the status of the answer, which is sound."""
    await client.send(sent)
    response = await client.read_response()
    if response.status == 101:
        return 101
    assert len(response.body.splitlines()) == 1
    return response.status


# --- What is accepted


async def test_accepting_response_is_that_of_the_rfc(server, dial):
    client = await dial(server)
    await client.send(request("/chat"))
    response = await client.read_response()
    assert response.status == 101
    assert response.raw_headers == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]
    assert accept_value(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (await client.receive())["type"] == "welcome"


@pytest.mark.parametrize(
    "sent",
    [
        request(upgrade="WebSocket"),
        request(upgrade="h2c, websocket"),
        request(upgrade="websocket,h2c"),
        request(without=["Upgrade"], headers=[("UPGRADE", "h2c"), ("upgrade", "WEBSOCKET")]),
        request(connection="keep-alive, Upgrade"),
        request(connection="upgrade"),
        request(connection="keep-alive,\tUPGRADE  , x"),
        request(without=["Connection"], headers=[("connection", "x"), ("CONNECTION", "upgrade")]),
        request(without=["Host"], headers=[("hOsT", "EXAMPLE.com:8080")]),
        request(sec_websocket_key="  " + KEY + "\t "),
        request(headers=[("Content-Length", "0")]),
        request(headers=[("X-Empty", ""), ("X-Bytes", "\xe9\xff")]),
        request(headers=[("Sec-WebSocket-Extensions", 'permessage-deflate; a=1, x; b="c"')]),
        request("/any/path?with=a&query"),
        request("/a:b"),
        request("http://example.com/chat?room=1"),
        request("ws://example.com:6001"),
        request("/" + "a" * 8000),
    ],
)
async def test_sound_request_is_accepted(server, dial, sent):
    client = await dial(server)
    assert await status_of(client, sent) == 101
    assert "sec-websocket-extensions" not in client.response.headers
    assert "sec-websocket-protocol" not in client.response.headers
    assert (await client.receive())["type"] == "welcome"
    await client.fence()


async def test_request_in_pieces_of_one_byte_is_accepted(server, dial):
    client = await dial(server)
    await client.send_slowly(request(headers=[("Origin", "http://localhost")]) + PING)
    assert (await client.read_response()).status == 101
    assert (await client.receive())["type"] == "welcome"
    assert await client.receive() == PONG


async def test_request_and_frames_may_be_cut_anywhere(server, dial):
    start, end = frame(TEXT, '{"ping":1,', fin=False), frame(CONTINUATION, '"id":1}')
    whole = request() + start + end + close(1000)
    for cut in range(1, len(whole)):
        client = await dial(server)
        await client.send_slowly(whole[:cut], cut)
        await client.send(whole[cut:])
        assert (await client.read_response()).status == 101
        assert (await client.receive())["type"] == "welcome"
        assert await client.receive() == PONG, cut
        assert await client.receive_close() == (1000, ""), cut
        await client.aclose()


async def test_frames_in_the_segment_of_the_request_are_handled(server, dial):
    client = await dial(server)
    await client.send(request() + PING + text("x" * 100_000) + PING)
    assert (await client.read_response()).status == 101
    assert (await client.receive())["type"] == "welcome"
    assert await client.receive() == PONG
    assert (await client.receive())["message"] == "x" * 100_000
    assert await client.receive() == PONG


async def test_frames_behind_the_request_wait_for_an_async_connect_hook(make_server, serve, dial):
    server = make_server()
    may_enter = asyncio.Event()

    @server.on("connect")
    async def connect(client):
        await may_enter.wait()

    client = await dial(await serve(server))
    await client.send(request() + PING)
    await client.send(PING)
    may_enter.set()
    assert (await client.read_response()).status == 101
    assert (await client.receive())["type"] == "welcome"
    assert [await client.receive(), await client.receive()] == [PONG, PONG]


async def test_second_request_behind_an_accepted_one_is_a_broken_frame(server, dial):
    client = await dial(server)
    await client.send(request() + request())
    assert (await client.read_response()).status == 101
    assert (await client.receive())["type"] == "welcome"
    assert (await client.receive_close())[0] == 1002


# --- What is refused: by HTTP and the RFC


UNPARSEABLE = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "binary": bytes(range(128, 256)) + b"\r\n\r\n",
    "no version": b"GET /\r\nHost: localhost\r\n\r\n",
    "only a newline in the target": b"GET \r\n\r\n",
    "line without colon": request().replace(b"Upgrade: websocket", b"Upgrade websocket"),
    "blank in front of the colon": request().replace(b"Upgrade:", b"Upgrade :"),
    "folded line": request(headers=[("X-A", "b\r\n c")]),
    "NUL": request(headers=[("X-A", "b\0c")]),
    "carriage return alone": request(headers=[("X-A", "b\rc")]),
    "name with a control character": request(headers=[("X\x01A", "b")]),
    "empty name": request(headers=[("", "b")]),
}


@pytest.mark.parametrize("sent", UNPARSEABLE.values(), ids=UNPARSEABLE)
async def test_what_cannot_be_parsed_is_400(server, dial, sent):
    client = await dial(server)
    await client.send(sent)
    assert (await refusal(client)).status == 400


BAD = {
    "no Host": request(without=["Host"]),
    "empty Host": request(host=""),
    "Host without a host": request(host=":6001"),
    "Host with a space": request(host="a b"),
    "Host with a port that is none": request(host="localhost:99999"),
    "two Hosts": request(headers=[("Host", "localhost")]),
    "no key": request(without=["Sec-WebSocket-Key"]),
    "empty key": request(sec_websocket_key=""),
    "two keys": request(headers=[("Sec-WebSocket-Key", KEY)]),
    "key of 15 bytes": request(sec_websocket_key="AAAAAAAAAAAAAAAAAAAA"),
    "key of 17 bytes": request(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAAA="),
    "key not in base64": request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZ*=="),
    "key without padding": request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ"),
    "key with a blank": request(sec_websocket_key="dGhlIHNhbXBsZSBub25j ZQ="),
    "body by length": request(headers=[("Content-Length", "5")]) + b"hello",
    "body in chunks": request(headers=[("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n",
    "length that is no number": request(headers=[("Content-Length", "x")]),
    "two lengths": request(headers=[("Content-Length", "0"), ("Content-Length", "5")]),
    "HTTP/1.0": request(version="HTTP/1.0"),
    "HTTP/2.0": request(version="HTTP/2.0"),
    "HTTP/0.9": request(version="HTTP/0.9"),
    "subprotocol that is no token": request(headers=[("Sec-WebSocket-Protocol", "a b")]),
    "extension that is no token": request(headers=[("Sec-WebSocket-Extensions", "a b")]),
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD)
async def test_bad_request_is_400(server, dial, sent):
    client = await dial(server)
    await client.send(sent)
    assert (await refusal(client)).status == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "GETT"])
async def test_other_method_is_405_and_says_which_is_allowed(server, dial, method):
    client = await dial(server)
    await client.send(request(method=method))
    response = await refusal(client)
    assert response.status == 405
    assert response.headers["allow"] == "GET"


async def test_refusal_reaches_a_client_that_still_sends_its_body(server, dial):
    client = await dial(server)
    size = 1 << 20
    head = request(method="POST", headers=[("Content-Length", str(size))])
    await client.send(head, bytes(size // 2))
    response = await client.read_response()
    assert response.status == 405
    await client.send(bytes(size // 2))
    assert await client.at_end()


NO_UPGRADE = {
    "no Upgrade": request(without=["Upgrade"]),
    "another Upgrade": request(upgrade="h2c"),
    "Upgrade that only begins so": request(upgrade="websocket2"),
    "Upgrade with a version": request(upgrade="websocket/13"),
    "no Connection": request(without=["Connection"]),
    "another Connection": request(connection="keep-alive"),
    "Connection that only contains it": request(connection="no-upgrade"),
    "no version": request(without=["Sec-WebSocket-Version"]),
    "version 8": request(sec_websocket_version="8"),
    "version 14": request(sec_websocket_version="14"),
    "version 13abc": request(sec_websocket_version="13abc"),
    "version 013": request(sec_websocket_version="013"),
    "empty version": request(sec_websocket_version=""),
    "two versions": request(headers=[("Sec-WebSocket-Version", "8")]),
    "a browser's visit": request(
        without=["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"],
        headers=[("Accept", "text/html"), ("Connection", "keep-alive")],
    ),
}


@pytest.mark.parametrize("sent", NO_UPGRADE.values(), ids=NO_UPGRADE)
async def test_request_that_asks_for_no_websocket_13_is_426(server, dial, sent):
    client = await dial(server)
    await client.send(sent)
    response = await refusal(client)
    assert response.status == 426
    assert response.headers["upgrade"] == "websocket"
    assert response.headers["sec-websocket-version"] == "13"


async def test_request_behind_a_refused_one_is_not_answered(server, dial):
    client = await dial(server)
    await client.send(request(method="POST") + request())
    assert (await refusal(client)).status == 405
    assert len(server.clients) == 0


async def test_refused_client_does_not_become_one(server, connect, dial):
    member = await connect(server)
    client = await dial(server)
    await client.send(request(version="HTTP/1.0"))
    await refusal(client)
    assert list(server.clients) == [member.id]
    await member.fence()


def filled(size):
    """Make a sound request of exactly so many bytes."""
    return request(headers=[("X-Fill", "a" * (size - len(request(headers=[("X-Fill", "")]))))])


@pytest.mark.parametrize("piece_size", [1000, 1 << 20])
async def test_header_block_of_16_kib_is_accepted(server, dial, piece_size):
    client = await dial(server)
    sent = filled(HEAD_LIMIT)
    assert len(sent) == HEAD_LIMIT
    await client.send_slowly(sent, piece_size)
    assert (await client.read_response()).status == 101


@pytest.mark.parametrize("piece_size", [1000, 1 << 20])
async def test_header_block_over_16_kib_is_431(server, dial, piece_size):
    client = await dial(server)
    await client.send_slowly(filled(HEAD_LIMIT + 1), piece_size)
    assert (await refusal(client)).status == 431


async def test_request_without_end_is_431_at_16_kib(server, dial):
    client = await dial(server)
    await client.send(request()[:-2] + b"X-Fill: " + b"a" * HEAD_LIMIT)
    assert (await refusal(client)).status == 431


async def test_too_many_header_lines_are_431(server, dial):
    client = await dial(server)
    await client.send(request(headers=[("X", "y")] * 500))
    assert (await refusal(client)).status == 431


# --- What is refused: by the configuration


async def test_other_path_than_the_configured_one_is_refused(serve, dial):
    server = await serve(path="/chat")
    for target, status in [
        ("/chat", 101),
        ("/chat?room=1", 101),
        ("http://localhost/chat", 101),
        ("/", 404),
        ("/chat/", 404),
        ("/Chat", 404),
        ("/chat/x", 404),
    ]:
        client = await dial(server)
        assert await status_of(client, request(target)) == status, target


async def test_host_that_is_not_allowed_is_400(serve, dial):
    server = await serve(allowed_hosts=["chat.example.com", "localhost:6001", "[::1]"])
    for host, status in [
        ("chat.example.com", 101),
        ("CHAT.Example.com", 101),
        ("localhost:6001", 101),
        ("[::1]", 101),
        ("chat.example.com:8080", 400),
        ("localhost", 400),
        ("localhost:60010", 400),
        ("xchat.example.com", 400),
        ("chat.example.com.evil.org", 400),
        ("a.chat.example.com", 400),
        ("evil.org, chat.example.com", 400),
    ]:
        client = await dial(server)
        assert await status_of(client, request(host=host)) == status, host


async def status_of_origin(client, origin):
    headers = [] if origin is None else [("Origin", origin)]
    return await status_of(client, request(headers=headers))


ALLOWED_ORIGINS = [
    "https://chat.example.com",
    "http://localhost:3000",
    "https://*.example.org",
    "https://*.example.net:8443",
    "http://[::1]:3000",
]


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.com",
        "https://chat.example.com:443",
        "HTTPS://Chat.Example.COM",
        "http://localhost:3000",
        "http://[::1]:3000",
        "https://a.example.org",
        "https://a.b.example.org",
        "https://a.example.net:8443",
    ],
)
async def test_allowed_origin_is_accepted(serve, dial, origin):
    server = await serve(allowed_origins=ALLOWED_ORIGINS, origin_required=True)
    assert await status_of_origin(await dial(server), origin) == 101


@pytest.mark.parametrize(
    "origin",
    [
        # another scheme or port
        "http://chat.example.com",
        "https://chat.example.com:80",
        "https://chat.example.com:8443",
        "https://chat.example.com:0",
        "http://localhost",
        "http://localhost:30000",
        "https://a.example.net",
        "wss://chat.example.com",
        # names that contain an allowed one
        "https://chat.example.com.evil.org",
        "https://chat.example.comevil.org",
        "https://evilchat.example.com",
        "https://evil.org.chat.example.com",
        "https://a.chat.example.com",
        "https://chat.example.com.",
        "https://chat.example.com@evil.org",
        "https://evil.org@chat.example.com",
        "https://evil.org/https://chat.example.com",
        "https://evil.org#https://chat.example.com",
        "https://evil.org?https://chat.example.com",
        # a wildcard stands for whole labels, at least one, in front
        "https://example.org",
        "https://.example.org",
        "https://evilexample.org",
        "https://a-example.org",
        "https://a.example.org.evil.com",
        "https://evil.com/.example.org",
        "https://evil.com?.example.org",
        "https://evil.com#.example.org",
        "https://evil.com@a.example.org",
        "https://evil.com:443@a.example.org",
        r"https://evil.com\.example.org",
        # no origins at all
        "null",
        "",
        "chat.example.com",
        "//chat.example.com",
        "https://",
        "https://chat.example.com/",
        "https://chat.example.com/path",
        "https://chat.example.com https://evil.org",
        "https://chat.example.com, https://evil.org",
        "https://chat.exam\tple.com",
        "https://chat.example.com:https",
        "https://[::1",
    ],
)
async def test_other_origin_is_403(serve, dial, origin):
    server = await serve(allowed_origins=ALLOWED_ORIGINS)
    assert await status_of_origin(await dial(server), origin) == 403


async def test_two_origins_are_403_even_if_both_are_allowed(serve, dial):
    server = await serve(allowed_origins=ALLOWED_ORIGINS)
    headers = [("Origin", "https://chat.example.com"), ("Origin", "https://a.example.org")]
    client = await dial(server)
    await client.send(request(headers=headers))
    assert (await refusal(client)).status == 403


async def test_missing_origin_is_403_only_where_one_is_required(serve, dial):
    listed = await serve(allowed_origins=ALLOWED_ORIGINS)
    assert await status_of_origin(await dial(listed), None) == 101
    required = await serve(origin_required=True)
    assert await status_of_origin(await dial(required), None) == 403
    both = await serve(origin_required=True, allowed_origins=ALLOWED_ORIGINS)
    assert await status_of_origin(await dial(both), None) == 403


async def test_any_origin_will_do_where_one_is_required_and_none_listed(serve, dial):
    server = await serve(origin_required=True)
    for origin in ["https://anywhere.example", "null"]:
        assert await status_of_origin(await dial(server), origin) == 101


async def test_null_origin_is_accepted_only_where_listed(serve, dial):
    server = await serve(allowed_origins=["null"])
    assert await status_of_origin(await dial(server), "null") == 101
    assert await status_of_origin(await dial(server), "https://null") == 403
    assert await status_of_origin(await dial(server), "NULL") == 403


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["json"], "json"),
        (["v2, json"], "json"),
        (["soap, json"], "soap"),
        (["v2", "soap, json"], "soap"),
        ([" soap\t,,json ,"], "soap"),
        (["v2"], None),
        (["JSON"], None),
        ([""], None),
        ([], None),
    ],
)
async def test_first_supported_subprotocol_of_the_client_is_chosen(serve, dial, offered, chosen):
    server = await serve(supported_protocols=["json", "soap"])
    client = await dial(server)
    headers = [("Sec-WebSocket-Protocol", value) for value in offered]
    assert await status_of(client, request(headers=headers)) == 101
    assert client.response.headers.get("sec-websocket-protocol") == chosen
    (member,) = server.clients.values()
    assert member.subprotocol == chosen


async def test_no_common_subprotocol_is_400_where_one_is_required(serve, dial):
    server = await serve(supported_protocols=["json"], protocol_required=True)
    for headers, status in [
        ([("Sec-WebSocket-Protocol", "v2, json")], 101),
        ([("Sec-WebSocket-Protocol", "v2")], 400),
        ([], 400),
    ]:
        assert await status_of(await dial(server), request(headers=headers)) == status


async def test_no_common_extension_is_400_where_one_is_required(serve, dial):
    server = await serve(supported_extensions=["x-none"], extensions_required=True)
    for headers in [[], [("Sec-WebSocket-Extensions", "x-other; a=1")]]:
        client = await dial(server)
        await client.send(request(headers=headers))
        assert (await refusal(client)).status == 400


# --- What is refused: for want of time or room


@pytest.mark.parametrize("begun", [b"", b"GET", request()[:-1]])
async def test_request_that_does_not_come_in_time_is_408(serve, dial, begun):
    server = await serve(handshake_timeout=0.1)
    client = await dial(server)
    if begun:
        await client.send(begun)
    assert (await refusal(client)).status == 408
    assert server.counters["handshake_timeouts"] == 1


async def test_request_that_trickles_is_408_all_the_same(serve, dial):
    server = await serve(handshake_timeout=0.2)
    client = await dial(server)

    async def trickle():
        for byte in request(headers=[("X-Fill", "a" * 10_000)]):
            await client.send(bytes([byte]))
            await asyncio.sleep(0.01)

    trickling = asyncio.ensure_future(trickle())
    try:
        assert (await client.read_response()).status == 408
    finally:
        trickling.cancel()


async def test_open_connection_does_not_meet_the_handshake_timeout(serve, connect, dial):
    server = await serve(handshake_timeout=0.5)
    client = await connect(server)
    silent = await dial(server)
    assert (await silent.read_response()).status == 408
    await client.fence()


async def test_connection_over_the_most_is_503_until_one_leaves(serve, connect, dial):
    server = await serve(max_connections=2)
    first, second = await connect(server), await connect(server)
    third = await dial(server)
    await third.send(request())
    response = await refusal(third)
    assert response.status == 503
    assert int(response.headers["retry-after"]) > 0
    await first.fence()
    await third.aclose()
    await second.aclose()
    await until(lambda: server._running.engine.connection_count == 1)
    await connect(server)


async def test_connection_far_over_the_most_is_ended_at_once(serve, connect, dial):
    server = await serve(max_connections=1)
    member = await connect(server)
    for _ in range(100):
        await dial(server)
    await until(lambda: server.counters["aborted_over_limit"] >= 30)
    await member.fence()


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is not there")
async def test_connection_over_the_most_from_one_address_is_503(serve, connect, dial):
    server = await serve(max_connections_per_ip=2)
    members = [await connect(server) for _ in range(2)]
    third = await dial(server)
    await third.send(request())
    response = await refusal(third)
    assert response.status == 503
    assert int(response.headers["retry-after"]) > 0
    other = await dial(server, source="127.0.0.2")
    await other.handshake()
    await third.aclose()
    await members[0].aclose()
    await until(lambda: server._running.engine.connection_count == 2)
    await connect(server)


async def test_handshake_over_the_most_undecided_is_503(make_server, serve, connect, dial):
    server = make_server(max_undecided_handshakes=1)
    may_enter = asyncio.Event()

    @server.on("connect")
    async def decide(client):
        await may_enter.wait()

    await serve(server)
    first = await dial(server)
    await first.send(request())
    await until(lambda: server._running._undecided)
    second = await dial(server)
    await second.send(request())
    response = await refusal(second)
    assert response.status == 503
    assert int(response.headers["retry-after"]) > 0
    may_enter.set()
    assert (await first.read_response()).status == 101
    await connect(server)


async def test_decision_that_takes_too_long_is_503_and_called_off(make_server, serve, dial):
    server = make_server(handshake_timeout=0.5)
    called_off = asyncio.Event()

    @server.on("connect")
    async def decide(client):
        try:
            await asyncio.Event().wait()
        finally:
            called_off.set()

    client = await dial(await serve(server))
    await client.send(request())
    assert (await refusal(client)).status == 503
    await asyncio.wait_for(called_off.wait(), 10)
    assert len(server.clients) == 0


async def test_refused_client_that_does_not_leave_is_ended(serve, dial):
    server = await serve(close_timeout=0.1)
    client = await dial(server)
    await client.send(request(version="HTTP/1.0"))
    assert (await client.read_response()).status == 400
    await until(lambda: server._running.engine.connection_count == 0)
