"""Who asks, where proxies stand in between: `trusted_proxies` and the PROXY protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import select
import shutil
import socket
import struct
import sys

import pytest

from conftest import until
from rakit_ws.config import Config
from raw_client import KEY, RawClient, request, text, within

HERE = "127.0.0.1"
AT_MOST = [-1, 0, 1]


@pytest.fixture
def logged(caplog):
    """Return the fields of the events with a name that were logged so far."""
    caplog.set_level(logging.INFO, "rakit_ws")

    def fields_of(name):
        records = [record.msg for record in caplog.records if record.name == "rakit_ws"]
        return [event.fields for event in records if event.name == name]

    return fields_of


async def asked(server, client):
    """Read the answer to a handshake; return who asked, and through whom, as the server knows it."""
    assert (await client.read_response()).status == 101
    await client.receive()
    member = list(server.clients.values())[-1]
    return member.remote_address, member.request.proxy


def host_of(address):
    return None if address is None else address.rpartition(":")[0]


# --- X-Forwarded-For and Forwarded


@pytest.mark.parametrize(
    ("settings", "headers", "peer"),
    [
        ({}, [("X-Forwarded-For", "203.0.113.7")], "203.0.113.7"),
        ({}, [("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 127.0.0.9")], "203.0.113.7"),
        ({}, [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "203.0.113.7")], "203.0.113.7"),
        ({}, [("X-Forwarded-For", "2001:db8::7")], "[2001:db8::7]"),
        ({}, [("X-Forwarded-For", "[2001:db8::7]:4711")], "[2001:db8::7]:4711"),
        ({}, [("X-Forwarded-For", "::ffff:203.0.113.7")], "203.0.113.7"),
        ({}, [("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=1.1.1.1")], "203.0.113.7"),
        (
            {"forwarding_header": "forwarded"},
            [("Forwarded", 'for="[2001:db8::7]:4711";proto=https'), ("X-Forwarded-For", "1.1.1.1")],
            "[2001:db8::7]:4711",
        ),
    ],
)
async def test_trusted_proxy_says_who_asks(serve, dial, settings, headers, peer):
    server = await serve(trusted_proxies=["127.0.0.0/8"], **settings)
    client = await dial(server)
    await client.send(request(headers=headers))
    seen, proxy = await asked(server, client)
    assert (seen, host_of(proxy)) == (peer, HERE)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Forwarded-For", "unknown")],
        [("X-Forwarded-For", "")],
        [("X-Forwarded-For", "1.1.1.1, not an address")],
        [("Forwarded", "for=1.1.1.1")],
    ],
)
async def test_trusted_proxy_that_says_nothing_asks_itself(serve, dial, headers):
    server = await serve(trusted_proxies=[HERE])
    client = await dial(server)
    await client.send(request(headers=headers))
    seen, proxy = await asked(server, client)
    assert host_of(seen) == HERE
    assert proxy == seen


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8", "::1", "unix"]])
async def test_nobody_else_is_believed(serve, dial, trusted):
    server = await serve(trusted_proxies=trusted)
    client = await dial(server)
    forged = [("X-Forwarded-For", "1.1.1.1"), ("Forwarded", 'for=1.1.1.1;for="')]
    await client.send(request(headers=forged))
    seen, proxy = await asked(server, client)
    assert (host_of(seen), proxy) == (HERE, None)


async def test_unix_socket_is_believed_on_request(serve, dial, tmp_path):
    server = await serve(host=f"unix:{tmp_path}/socket", trusted_proxies=["unix"])
    client = await dial(server)
    await client.send(request(headers=[("X-Forwarded-For", "203.0.113.7")]))
    assert await asked(server, client) == ("203.0.113.7", "unix:")


async def test_forwarded_that_breaks_its_grammar_is_400(serve, dial, logged):
    server = await serve(trusted_proxies=[HERE], forwarding_header="forwarded")
    client = await dial(server)
    await client.send(request(headers=[("Forwarded", 'for="1.1.1.1, for=203.0.113.7')]))
    assert (await client.read_response()).status == 400
    assert [fields["reason"] for fields in logged("handshake refused")] == ["malformed Forwarded"]


async def test_log_tells_who_asks(serve, dial, logged):
    server = await serve(trusted_proxies=[HERE])
    client = await dial(server)
    await client.send(request(headers=[("X-Forwarded-For", "203.0.113.7")]))
    await asked(server, client)
    refused = await dial(server)
    await refused.send(
        request(headers=[("X-Forwarded-For", "203.0.113.8")], sec_websocket_version="8")
    )
    await refused.read_response()
    await until(lambda: logged("handshake refused"))
    assert logged("client connected")[0]["peer"] == "203.0.113.7"


async def test_request_through_a_proxy_is_never_local(serve, dial):
    for trusted, headers, answer in [
        ([], [], "ack"),
        ([], [("X-Forwarded-For", "127.0.0.1")], "error"),
        ([HERE], [], "error"),
        ([HERE], [("X-Forwarded-For", "127.0.0.1")], "error"),
    ]:
        server = await serve(trusted_proxies=trusted)
        client = await dial(server)
        await client.send(request(headers=headers))
        await asked(server, client)
        assert (await client.ask({"command": "presence"}))["type"] == answer, (trusted, headers)


def forwarded_for(address):
    return request(headers=[("X-Forwarded-For", address)])


@pytest.mark.parametrize("beside", AT_MOST)
@pytest.mark.parametrize(
    ("addresses", "other"),
    [
        (["203.0.113.7"], "203.0.113.8"),
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"], "2001:db8:0:1::1"),
    ],
)
async def test_connections_of_one_address_behind_a_proxy(
    serve, dial, logged, addresses, other, beside
):
    server = await serve(trusted_proxies=[HERE], max_connections_per_ip=3)
    statuses, clients = [], []
    for n in range(3 + beside):
        clients.append(await dial(server))
        await clients[-1].send(forwarded_for(addresses[n % len(addresses)]))
        statuses.append((await clients[-1].read_response()).status)
    is_over = beside > 0
    assert statuses == [101] * min(3, 3 + beside) + [503] * is_over
    assert server.counters["over_max_connections_per_ip"] == is_over
    refused = [fields["peer"] for fields in logged("handshake refused")]
    assert len(refused) == is_over
    assert HERE not in str(refused)
    # Others are not concerned, nor is the proxy itself.
    for sent in [forwarded_for(other), request(), request(), request(), request()]:
        client = await dial(server)
        await client.send(sent)
        assert (await client.read_response()).status == 101
    for client in clients:
        await client.aclose()
    await until(lambda: len(server.clients) == 5)
    await until(lambda: server._running.engine.connection_count == 5)
    client = await dial(server)
    await client.send(forwarded_for(addresses[0]))
    assert (await client.read_response()).status == 101, "there is room again"


# --- nginx, with the lines that README gives it

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{server};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""


@pytest.fixture
async def nginx(tmp_path):
    """Start nginx in front of a server; return where it listens."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no nginx")
    async with contextlib.AsyncExitStack() as stack:

        async def start(server):
            with socket.socket() as free:
                free.bind((HERE, 0))
                port = free.getsockname()[1]
            conf = tmp_path / "nginx.conf"
            conf.write_text(NGINX.format(folder=tmp_path, port=port, server=server.addresses[0]))
            errors = tmp_path / "error.log"
            process = await asyncio.create_subprocess_exec(
                program, "-p", str(tmp_path), "-c", str(conf), "-e", str(errors)
            )

            async def end():
                process.terminate()
                await within(process.wait())

            stack.push_async_callback(end)
            await until(lambda: accepts(port) or process.returncode is not None)
            assert process.returncode is None, errors.read_text()
            return f"{HERE}:{port}"

        yield start


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex((HERE, port)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is not there")
async def test_client_behind_nginx_is_known_and_what_it_forges_is_not_believed(serve, nginx):
    server = await serve(trusted_proxies=[HERE], max_connections_per_ip=1)
    address = await nginx(server)
    client = await RawClient.open(address, source="127.0.0.2")
    second = await RawClient.open(address, source="127.0.0.2")
    third = await RawClient.open(address, source="127.0.0.3")
    try:
        await client.send(forwarded_for("203.0.113.7"))
        seen, proxy = await asked(server, client)
        assert (seen, host_of(proxy)) == ("127.0.0.2", HERE)
        await second.send(forwarded_for("203.0.113.8"))
        assert (await second.read_response()).status == 503
        await third.send(request())
        assert (await asked(server, third))[0] == "127.0.0.3"
    finally:
        for each in (client, second, third):
            await each.aclose()


# --- The PROXY protocol

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source="203.0.113.7", port=4711):
    family = "TCP6" if ":" in source else "TCP4"
    target = "::1" if ":" in source else HERE
    return f"PROXY {family} {source} {target} {port} 80\r\n".encode()


def v2(source="203.0.113.7", port=4711, *, command=1, extensions=b""):
    address = ipaddress.ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    block = address.packed + bytes(len(address.packed)) + struct.pack("!HH", port, 80) + extensions
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(block)) + block


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (v1(), "203.0.113.7:4711"),
        (v1("2001:db8::7"), "[2001:db8::7]:4711"),
        (v2(), "203.0.113.7:4711"),
        (v2("2001:db8::7"), "[2001:db8::7]:4711"),
        (v2("::ffff:203.0.113.7"), "203.0.113.7:4711"),
        (v2(extensions=b"\x04\x00\x0a" + b"x" * 10), "203.0.113.7:4711"),
        (SIGNATURE + b"\x21\x31\x00\xd8" + b"/" * 216, "unix:"),
    ],
)
@pytest.mark.parametrize("piece_size", [1, 7, 4096])
async def test_proxy_header_says_who_asks(serve, dial, header, peer, piece_size):
    server = await serve(proxy_protocol=True)
    client = await dial(server)
    await client.send_slowly(header + request() + text({"ping": 1, "id": 1}), piece_size)
    seen, proxy = await asked(server, client)
    assert (seen, host_of(proxy)) == (peer, HERE)
    assert await client.receive() == {"type": "pong", "id": 1}


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", v2(command=0), SIGNATURE + b"\x21\x00\x00\x00"]
)
async def test_proxy_that_speaks_for_nobody_asks_itself(serve, dial, header):
    server = await serve(proxy_protocol=True)
    client = await dial(server)
    await client.send(header + request())
    seen, proxy = await asked(server, client)
    assert host_of(seen) == HERE
    assert proxy == seen
    assert (await client.ask({"command": "presence"}))["code"] == "forbidden", "it is a proxy"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (request(), "no PROXY header"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 x\r\n" + request(), "malformed PROXY line"),
        (b"PROXY TCP4 " + b"1" * 200, "PROXY line over 107 bytes"),
        (SIGNATURE + b"\x31", "PROXY version is not 2"),
        (SIGNATURE + b"\x21\x11\x10\x00", "PROXY header over 4096 bytes"),
        (SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), "PROXY addresses are cut off"),
        (KEY.encode(), "no PROXY header"),
    ],
)
async def test_connection_without_a_sound_proxy_header_is_aborted(
    serve, dial, logged, sent, reason
):
    server = await serve(proxy_protocol=True)
    client = await dial(server)
    await client.send(sent)
    assert await client.at_end(), "not a word to whom does not speak it"
    assert server.counters["proxy_headers_malformed"] == 1
    assert [fields["reason"] for fields in logged("connection aborted")] == [reason]


async def test_proxy_header_is_taken_from_trusted_proxies_only(serve, dial, logged):
    server = await serve(proxy_protocol=True, trusted_proxies=["10.0.0.0/8"])
    client = await dial(server)
    await client.send(v1() + request())
    assert await client.at_end()
    assert server.counters["proxies_untrusted"] == 1
    (fields,) = logged("connection aborted")
    assert (fields["reason"], host_of(fields["peer"])) == ("not one of trusted_proxies", HERE)
    server = await serve(proxy_protocol=True, trusted_proxies=["10.0.0.0/8", HERE])
    client = await dial(server)
    await client.send(v1() + request())
    assert (await asked(server, client))[0] == "203.0.113.7:4711"


async def test_proxy_header_that_does_not_come_in_time_is_aborted(serve, dial, logged):
    server = await serve(proxy_protocol=True, handshake_timeout=0.1)
    client = await dial(server)
    await client.send(b"PROXY TCP4 1.1.1.1 ")
    assert await client.at_end()
    assert server.counters["handshake_timeouts"] == 1
    assert [fields["reason"] for fields in logged("connection aborted")] == [
        "no PROXY header in time"
    ]


async def test_proxy_header_and_forwarding_header_are_a_chain(serve, dial):
    # A balancer of TCP in front of a proxy of HTTP.
    server = await serve(proxy_protocol=True, trusted_proxies=[HERE, "10.0.0.2"])
    for source, peer in [("10.0.0.2", "203.0.113.7"), ("10.0.0.3", "10.0.0.3:4711")]:
        client = await dial(server)
        await client.send(v2(source) + forwarded_for("203.0.113.7"))
        seen, proxy = await asked(server, client)
        assert (seen, host_of(proxy)) == (peer, HERE)


@pytest.mark.parametrize("beside", AT_MOST)
async def test_connections_of_one_address_behind_a_proxy_header(serve, dial, beside):
    server = await serve(proxy_protocol=True, max_connections_per_ip=3)
    statuses = []
    for n in range(3 + beside):
        client = await dial(server)
        await client.send(v2(f"2001:db8::{n}") + request())
        statuses.append((await client.read_response()).status)
    is_over = beside > 0
    assert statuses == [101] * min(3, 3 + beside) + [503] * is_over
    assert server.counters["over_max_connections_per_ip"] == is_over
    client = await dial(server)
    await client.send(v2("2001:db8:0:1::") + request())
    assert (await client.read_response()).status == 101


async def test_silent_connections_of_one_address_behind_a_proxy_header_are_not_held(serve, dial):
    server = await serve(proxy_protocol=True, max_connections_per_ip=2)
    for _ in range(2 + 8 + 5):
        await (await dial(server)).send(v1())
    await until(lambda: server.counters["aborted_over_limit"] == 5)
    assert server._running.engine.connection_count == 2 + 8


async def test_half_a_proxy_header_does_not_keep_the_server_busy(serve, dial):
    server = await serve(proxy_protocol=True)
    client = await dial(server)
    await client.send(b"PROXY TCP4 203.0.113.7 ")
    await until(lambda: server._running.engine.connection_count == 1)
    engine = server._running.engine
    await until(lambda: not readable(engine.fileno()))
    await client.send(b"127.0.0.1 4711 80\r\n" + request())
    assert (await asked(server, client))[0] == "203.0.113.7:4711"


def readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


# --- Configuration


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"trusted_proxies": ["0.0.0.0/0"]}, "trusted_proxies has everybody in it"),
        ({"trusted_proxies": ["10.0.0.1", "::/0"]}, "trusted_proxies has everybody in it"),
        ({"proxy_protocol": True}, "proxy_protocol without trusted_proxies"),
    ],
)
def test_what_is_probably_not_meant_is_said(settings, expected):
    assert expected in " ".join(Config(**settings).warnings())
