"""TLS: files, handshakes, what clients of other makers see, and that nothing else changes."""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from application import app
from conftest import until
from identities import DAY, authority, rsa_key, traditional, traditional_encrypted
from rakit_ws import ConfigError, Server, UsageError
from raw_client import BINARY, TEXT, RawClient, close, frame, request, text, within
from test_peers import meet  # noqa: F401 - a fixture

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024


@pytest.fixture
def identity(tmp_path):
    return authority().issue(tmp_path)


@pytest.fixture
def context(identity):
    return identity.context()


@pytest.fixture
async def server(serve, identity):
    return await serve(tls=identity.settings)


def port_of(server):
    return int(server.addresses[0].rpartition(":")[2])


# --- Clients ----------------------------------------------------------------------------------


async def test_messages_travel_both_ways(server, connect, context):
    one = await connect(server, tls=context)
    two = await connect(server, tls=context)
    await one.send({"to": two.id, "message": "halo"})
    assert await two.receive() == {"type": "private", "client_id": one.id, "message": "halo"}
    assert server.counters["tls_handshakes"] == 2
    assert server.counters["tls_failures"] == 0


async def test_chat_with_clients_of_other_makers(server, identity, meet):  # noqa: F811
    one = await meet(server, identity=identity)
    two = await meet(server, identity=identity)
    for content in ("Halo semua! é😀", "x" * 300_000):
        server.send(two.id, content)
        assert content in await within(two.receive())
    server.disconnect(one.id)
    with pytest.raises(Exception, match="4000"):
        await within(one.receive())
    assert await within(two.close(1000, "bye")) == 1000


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(server, connect, context, version):
    context.minimum_version = context.maximum_version = version
    client = await connect(server, tls=context)
    spoken = client.writer.get_extra_info("ssl_object").version()
    assert spoken == version.name.replace("_", ".")
    await client.fence()


async def test_tls_1_1_is_refused(server, context, caplog):
    caplog.set_level("INFO", "rakit_ws")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await RawClient.open(server.addresses[0], tls=context)
    await until(lambda: server.counters["tls_failures"] == 1)
    assert server.counters["refused"] == 0
    assert any("tls failed" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)],
)
async def test_alpn_is_http_1_1(server, connect, context, offered, chosen):
    if offered:
        context.set_alpn_protocols(offered)
    client = await connect(server, tls=context)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


async def test_client_that_speaks_http_2_only_gets_an_alert(server, context):
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await RawClient.open(server.addresses[0], tls=context)
    await until(lambda: server.counters["tls_failures"] == 1)


async def test_client_that_does_not_trust_the_certificate_is_logged_with_its_alert(server, caplog):
    caplog.set_level("INFO", "rakit_ws")
    stranger = ssl.create_default_context()

    def connect():  # asyncio's own client keeps the alert to itself
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as plain:
            stranger.wrap_socket(plain, server_hostname="localhost")

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(connect)
    await until(lambda: server.counters["tls_failures"] == 1)
    (line,) = [each for each in caplog.records if "tls failed" in each.getMessage()]
    assert "UnknownCA" in line.getMessage()
    assert "peer=127.0.0.1:" in line.getMessage()


async def test_rsa_certificate_is_spoken_with(serve, connect, tmp_path):
    identity = authority().issue(tmp_path, key=rsa_key())
    server = await serve(tls=identity.settings)
    client = await connect(server, tls=identity.context())
    await client.fence()


async def test_whole_chain_is_sent(server, context):
    client = await RawClient.open(server.addresses[0], tls=context)
    # It trusts the root alone, and has never seen the intermediate.
    assert client.writer.get_extra_info("peercert")["issuer"] == (
        (("commonName", "intermediate"),),
    )
    await client.aclose()


async def test_ipv6_and_unix_sockets_speak_it_too(serve, identity, dial, tmp_path):
    for host in ("::1", f"unix:{tmp_path}/socket"):
        server = await serve(host=host, tls=identity.settings)
        client = await dial(server, tls=identity.context())
        await client.handshake()


async def test_hooks_see_that_it_is_secure(make_server, serve, connect, identity):
    for tls, secure in ((identity.settings, True), ({}, False)):
        server = make_server(tls=tls)
        seen = []
        server.on("connect")(lambda client, seen=seen: seen.append(client.request.is_secure))
        await serve(server)
        await connect(server, tls=identity.context() if secure else None)
        assert seen == [secure]


async def test_proxy_header_comes_in_front_of_tls(make_server, serve, identity):
    server = make_server(tls=identity.settings, proxy_protocol=True, trusted_proxies=["127.0.0.1"])
    seen = []
    server.on("connect")(lambda client: seen.append(client.remote_address))
    await serve(server)

    def converse():
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as plain:
            plain.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
            with identity.context().wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(request())
                return tls.recv(4096)

    assert (await asyncio.to_thread(converse)).startswith(b"HTTP/1.1 101 ")
    assert seen == ["192.0.2.7:4711"]


# --- What is large, slow or cut ----------------------------------------------------------------


def echo(server):
    @server.on("receive")
    def receive(client, opcode, payload):
        client.send_frame(opcode, payload)
        return True

    return server


async def test_message_of_16_mib_both_ways(make_server, serve, connect, identity):
    size = 16 * MIB
    server = make_server(tls=identity.settings, max_buffer_size=size, max_send_buffer=2 * size)
    client = await connect(await serve(echo(server)), tls=identity.context())
    payload = os.urandom(MIB) * 16
    sending = asyncio.ensure_future(client.send(frame(BINARY, payload)))
    assert (await client.read_frame()).payload == payload
    await sending


async def test_client_that_writes_byte_by_byte(server, context):
    """Each byte of what TLS makes is a segment of its own, from the first hello on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def exchange(step, *arguments):
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                result = None
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            if result is not None:
                return result
            incoming.write(await within(reader.read(4096)))

    await exchange(lambda: tls.do_handshake() or True)
    await exchange(tls.write, request())
    head = await exchange(tls.read, 4096)
    assert head.startswith(b"HTTP/1.1 101 ")
    await exchange(tls.write, text({"ping": 1, "id": 7}))
    received = head
    while b'{"type":"pong","id":7}' not in received:
        received += await exchange(tls.read, 4096)
    writer.close()


@pytest.mark.one_shard("whether it reads too slowly is known to the thread that sends to it")
async def test_slow_reader_is_closed_with_1013_at_its_limit(serve, connect, context, identity):
    server = await serve(tls=identity.settings, max_send_buffer=256 * 1024)
    slow = await connect(server, tls=context, receive_buffer=4096)
    other = await connect(server, tls=context)
    engine = server._running.engine
    handle = server.clients[slow.id].handle
    sent = 0
    while slow.id in server.clients and sent < 64 * MIB:
        sent += 16 * 1024 * int(await server.send(slow.id, "x" * 16 * 1024))
        assert engine.queued_bytes(handle) < 256 * 1024 + 20 * 1024
    assert server.counters["slow_readers"] == 1
    await other.fence()
    messages, code = await slow.receive_until_close()
    assert code == 1013
    assert len(messages) == sent // (16 * 1024)


async def test_close_reaches_the_client_before_the_end_of_tls(server, connect, context):
    client = await connect(server, tls=context)
    await client.send(close(1000))
    assert await client.receive_close() == (1000, "")
    assert await client.at_end()
    await until(lambda: server._running.engine.connection_count == 0)
    assert server.counters["close_timeouts"] == 0


async def test_stop_says_1001_to_all(make_server, identity):
    async with make_server(tls=identity.settings) as server:
        clients = [await RawClient.open(server.addresses[0], tls=identity.context()) for _ in "12"]
        for client in clients:
            await client.handshake()
        ending = asyncio.gather(*(client.receive_until_close() for client in clients))
        half = await asyncio.open_connection("127.0.0.1", port_of(server))
        await until(lambda: server._running.engine.connection_count == 3)
    assert [code for _, code in await ending] == [1001, 1001]
    for client in clients:
        await client.aclose()
    half[1].close()


# --- Those who do not speak it -------------------------------------------------------------------


async def test_plain_http_is_told_what_to_use(server, dial):
    client = await dial(server)
    await client.send(request())
    response = await client.read_response()
    assert response.status == 400
    assert response.body == "this port speaks TLS: use wss:// or https://\n"
    assert await client.at_end()
    assert server.counters["refused"] == server.counters["tls_failures"] == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_shows_the_refusals(server):
    async def curl(*arguments):
        command = ("curl", "-sk", "--max-time", "10", *arguments)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await within(process.communicate())
        return output.decode()

    port = port_of(server)
    assert "use wss://" in await curl(f"http://127.0.0.1:{port}/")
    shown = await curl("-i", "--http1.1", f"https://127.0.0.1:{port}/")
    assert shown.startswith("HTTP/1.1 426 Upgrade Required\r\n")
    assert (await curl("-i", "--http2", f"https://127.0.0.1:{port}/")).startswith("HTTP/1.1 426 ")


async def test_garbage_gets_an_alert_and_the_end(server, dial):
    for garbage in (b"\x00" * 64, b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100):
        client = await dial(server)
        await client.send(garbage)
        alert = await within(client.reader.read())
        assert alert[:1] == b"\x15"
        assert len(alert) == 7
    assert server.counters["tls_failures"] == 3


@pytest.mark.parametrize("after", [0, 1, 5, 100, 10_000])
async def test_reset_in_the_middle_of_the_handshake_leaves_nothing(server, context, after):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client = await RawClient.open(server.addresses[0])
    await client.send(outgoing.read()[:after])
    await until(lambda: server.counters["accepted"] == 1)
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.writer.transport.abort()
    await until(lambda: server._running.engine.connection_count == 0)
    assert server.counters["lost"] == server.counters["refused"] == 0


async def test_handshakes_that_never_end_are_dropped_at_the_deadline(serve, identity, connect):
    server = await serve(tls=identity.settings, handshake_timeout=0.3)
    silent = [await RawClient.open(server.addresses[0]) for _ in range(300)]
    for client in silent[::2]:
        await client.send(b"\x16\x03\x01\x02\x00\x01")
    served = await connect(server, tls=identity.context())
    await until(lambda: server.counters["handshake_timeouts"] == 300)
    await until(lambda: server._running.engine.connection_count == 1)
    await served.fence()
    for client in silent:
        await client.aclose()


# --- The files ----------------------------------------------------------------------------------


async def refused(serve, certificate, key):
    with pytest.raises(ConfigError) as error:
        await serve(tls={"certificate": str(certificate), "key": str(key)})
    message = str(error.value)
    assert "\n" not in message
    return message


async def test_missing_file_is_named(serve, identity):
    missing = identity.key.with_name("missing.pem")
    message = await refused(serve, missing, identity.key)
    assert message.startswith(f"tls.certificate: {missing}: cannot be read: No such file")
    message = await refused(serve, identity.certificate, missing)
    assert message.startswith(f"tls.key: {missing}: cannot be read: No such file")


async def test_unreadable_file_is_named(serve, identity):
    message = await refused(serve, identity.certificate, identity.key.parent)
    assert message.startswith(f"tls.key: {identity.key.parent}: cannot be read: Is a directory")


async def test_file_without_a_certificate_is_named(serve, identity):
    message = await refused(serve, identity.key, identity.key)
    assert message.startswith(f"tls.certificate: {identity.key}: no certificate in it")


async def test_file_without_a_key_is_named(serve, identity):
    message = await refused(serve, identity.certificate, identity.certificate)
    assert message.startswith(f"tls.key: {identity.certificate}: no private key in it")


async def test_broken_pem_is_named(serve, identity):
    pem = identity.certificate.read_text()
    identity.certificate.write_text(pem[: len(pem) // 3])
    message = await refused(serve, identity.certificate, identity.key)
    assert message.startswith(f"tls.certificate: {identity.certificate}: not PEM: ")


async def test_what_is_no_certificate_is_named(serve, identity):
    pem = "-----BEGIN CERTIFICATE-----\naGFsbyBzZW11YSE=\n-----END CERTIFICATE-----\n"
    identity.certificate.write_text(pem)
    message = await refused(serve, identity.certificate, identity.key)
    assert message.startswith(f"tls.certificate: {identity.certificate}: not a certificate")


async def test_encrypted_key_is_named(serve, tmp_path):
    identity = authority().issue(tmp_path, passphrase=b"secret")
    message = await refused(serve, identity.certificate, identity.key)
    assert message.startswith(f"tls.key: {identity.key}: the key is encrypted")
    identity.key.write_bytes(traditional_encrypted(rsa_key(), b"secret"))
    assert "the key is encrypted" in await refused(serve, identity.certificate, identity.key)


async def test_key_of_another_certificate_is_named(serve, tmp_path):
    one = authority().issue(tmp_path, name="one")
    other = authority().issue(tmp_path, name="other")
    message = await refused(serve, one.certificate, other.key)
    assert message == f"tls.key: {other.key}: not the key of {one.certificate}"


async def test_expired_certificate_is_named_with_its_date(serve, tmp_path):
    identity = authority().issue(tmp_path, since=-3 * DAY, until=-DAY)
    message = await refused(serve, identity.certificate, identity.key)
    yesterday = (datetime.datetime.now(datetime.timezone.utc) - DAY).date()
    start = f"tls.certificate: {identity.certificate}: the certificate has expired on "
    assert message == f"{start}{yesterday}"


async def test_certificate_of_tomorrow_is_named_with_its_date(serve, tmp_path):
    identity = authority().issue(tmp_path, since=DAY)
    message = await refused(serve, identity.certificate, identity.key)
    assert "the certificate is not valid before " in message


async def test_keys_of_the_older_kinds_are_read(serve, connect, tmp_path):
    for number, key in enumerate((rsa_key(), None)):
        identity = authority().issue(tmp_path, name=f"old{number}", key=key)
        if key is not None:
            identity.key.write_bytes(traditional(key))
        server = await serve(tls=identity.settings)
        await connect(server, tls=identity.context())


@pytest.mark.parametrize(("given", "missing"), [("certificate", "key"), ("key", "certificate")])
def test_one_file_without_the_other_is_a_mistake(make_server, given, missing):
    with pytest.raises(ConfigError, match=rf"tls\.{missing} is missing beside tls\.{given}"):
        make_server(tls={given: "some.pem"})


async def test_certificate_that_expires_soon_is_warned_of(serve, tmp_path, caplog):
    caplog.set_level("INFO", "rakit_ws")
    await serve(tls=authority().issue(tmp_path, until=13 * DAY).settings)
    assert any("certificate expires soon" in each.getMessage() for each in caplog.records)
    caplog.clear()
    await serve(tls=authority().issue(tmp_path, until=15 * DAY).settings)
    assert not any("certificate expires soon" in each.getMessage() for each in caplog.records)
    (line,) = [
        each.getMessage()
        for each in caplog.records
        if each.getMessage().startswith("certificate file")
    ]
    assert "expires=20" in line


# --- Renewal -------------------------------------------------------------------------------------


async def serial_shown(server, identity):
    """Connect anew; return which certificate the server shows."""
    client = await RawClient.open(server.addresses[0], tls=identity.context())
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await client.aclose()
    return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
async def renewable(tmp_path, serve, identity):
    """A server that has its settings from a file."""
    file = tmp_path / "settings.toml"
    paths = f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\n'
    file.write_text(f"port = 0\n[presence]\nenabled = false\n[tls]\n{paths}")
    return await serve(Server.from_config(file))


async def test_reload_shows_newcomers_the_new_certificate_and_keeps_who_is_there(
    renewable, connect, identity, tmp_path
):
    old = await connect(renewable, tls=identity.context())
    assert await serial_shown(renewable, identity) == identity.serial
    renewed = authority().issue(tmp_path)  # under the same names
    assert await serial_shown(renewable, identity) == identity.serial, "not before the reload"
    assert not renewable.reload().changed
    assert await serial_shown(renewable, renewed) == renewed.serial
    await old.fence()


async def test_certificate_that_cannot_be_used_leaves_the_old_one_in_force(
    renewable, connect, identity, tmp_path
):
    old = await connect(renewable, tls=identity.context())
    authority().issue(tmp_path, since=-3 * DAY, until=-DAY)
    with pytest.raises(ConfigError, match="expired"):
        renewable.reload()
    with pytest.raises(ConfigError, match="expired"):
        renewable.reload_certificate()
    assert await serial_shown(renewable, identity) == identity.serial
    await old.fence()


async def test_tls_is_turned_on_and_off_for_newcomers(renewable, connect, identity, tmp_path):
    secure = await connect(renewable, tls=identity.context())
    file = tmp_path / "settings.toml"
    settings = file.read_text()
    file.write_text(settings[: settings.index("[tls]")])
    renewable.reload()
    plain = await connect(renewable)
    file.write_text(settings)
    renewable.reload()
    await connect(renewable, tls=identity.context())
    for client in (secure, plain):
        await client.fence()


async def test_server_set_up_by_code_reads_its_certificate_again(server, identity, tmp_path):
    renewed = authority().issue(tmp_path)
    server.reload_certificate()
    assert await serial_shown(server, renewed) == renewed.serial


async def test_without_tls_there_is_no_certificate_to_read_again(serve):
    server = await serve()
    with pytest.raises(UsageError, match="speaks no TLS"):
        server.reload_certificate()


async def test_sighup_reads_the_certificate_again_and_a_broken_one_harms_nobody(tmp_path, identity):
    log = tmp_path / "server.log"
    script = f"""
from rakit_ws.cli import main
raise SystemExit(main(["run", "--port", "0", "--tls-certificate", {str(identity.certificate)!r},
                       "--tls-key", {str(identity.key)!r}]))
"""
    settings = {"RAKIT_WS_LOGGING_OUTPUT": "file", "RAKIT_WS_LOG_FILE": str(log)}
    with app(tmp_path, script, **settings) as (process, address):
        addresses = SimpleNamespace(addresses=[address])
        client = await RawClient.open(address, tls=identity.context())
        await client.handshake()
        await client.receive()
        renewed = authority().issue(tmp_path)
        process.send_signal(signal.SIGHUP)
        await until(lambda: log.read_text().count("reloaded") == 1)
        assert await serial_shown(addresses, renewed) == renewed.serial

        identity.key.write_text("")
        process.send_signal(signal.SIGHUP)
        await until(lambda: "not reloaded" in log.read_text())
        assert f"tls.key: {identity.key}: no private key in it" in log.read_text()
        assert await serial_shown(addresses, renewed) == renewed.serial
        await client.send(text({"ping": 1, "id": "fence"}))
        while (await client.receive())["type"] != "pong":
            pass
        await client.aclose()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


# --- The command line ----------------------------------------------------------------------------


def run_cli(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAKIT_WS_")}
    command = [sys.executable, "-m", "rakit_ws", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=ROOT, env=environment
    )


def test_check_reads_the_files(identity, tmp_path):
    good = run_cli("check", "--tls-certificate", identity.certificate, "--tls-key", identity.key)
    assert good.returncode == 0, good.stderr
    assert f'certificate = "{identity.certificate}"  # --tls-certificate' in good.stdout
    missing = tmp_path / "missing.pem"
    bad = run_cli("check", "--tls-certificate", missing, "--tls-key", identity.key)
    assert bad.returncode == 2
    assert bad.stderr.startswith(f"rakit-ws: tls.certificate: {missing}: cannot be read: ")


def test_run_refuses_what_check_refuses(identity):
    ended = run_cli("run", "--port", "0", "--tls-certificate", identity.certificate)
    assert ended.returncode == 2
    assert "tls.key is missing beside tls.certificate" in ended.stderr
    swapped = ("--tls-certificate", identity.key, "--tls-key", identity.certificate)
    ended = run_cli("run", "--port", "0", *swapped)
    assert ended.returncode == 2
    assert "no certificate in it" in ended.stderr


def test_log_shows_wss(identity):
    flags = ("--tls-certificate", identity.certificate, "--tls-key", identity.key)
    process = subprocess.Popen(
        [sys.executable, "-m", "rakit_ws", "run", "--port", "0", *map(str, flags)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert "address=wss://127.0.0.1:" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_echo_example_speaks_tls(identity):
    command = [sys.executable, "examples/echo.py", "--port", "0"]
    flags = ["--certificate", str(identity.certificate), "--key", str(identity.key)]
    process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        port = int(process.stdout.readline().rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            identity.context().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(request() + frame(TEXT, "halo"))
            received = b""
            while not received.endswith(b"\x81\x04halo"):
                received += tls.recv(4096)
    finally:
        process.terminate()
        process.communicate(timeout=30)
