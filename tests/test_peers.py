"""
The same conversations with clients that others have written.

`websockets`, `websocket-client`, `aiohttp`, and `ws` for Node.js: `npm install --prefix tests ws`,
or anywhere that NODE_PATH names. Where Node or `ws` is missing, its tests are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest
import websocket
import websockets

from conftest import until
from raw_client import TIMEOUT_S, within

# Each of the peers offers compression if the server would have it.
COMPRESSION = {
    "plain": {},
    "compressed": {"enabled": True, "minimum_size": 0},
    "in context": {
        "enabled": True,
        "minimum_size": 0,
        "server_context_takeover": True,
        "client_context_takeover": True,
        "client_window_bits": 12,
    },
}

NODE_CLIENT = Path(__file__).parent / "peers" / "ws_client.js"
MEGABYTE = 1_000_000


class EndedError(Exception):
    """The WebSocket was closed; `code` and `reason` are what the peer saw."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class RejectedError(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


class WebsocketsPeer:
    """`websockets`, its asyncio client."""

    async def connect(self, url, protocols=(), identity=None):
        try:
            self._socket = await websockets.connect(
                url,
                subprotocols=list(protocols) or None,
                ping_interval=None,
                max_size=None,
                ssl=identity and identity.context(),
            )
        except websockets.InvalidStatus as error:
            raise RejectedError(error.response.status_code) from None
        return self._socket.subprotocol

    async def send(self, text):
        await self._socket.send(text)

    async def receive(self):
        try:
            return await self._socket.recv()
        except websockets.ConnectionClosed:
            raise EndedError(self._socket.close_code, self._socket.close_reason) from None

    async def ping(self, payload):
        await (await self._socket.ping(payload))

    async def close(self, code, reason):
        await self._socket.close(code, reason)
        return self._socket.close_code

    async def end(self):
        if hasattr(self, "_socket"):
            await self._socket.close()


class AiohttpPeer:
    """The client of `aiohttp`."""

    async def connect(self, url, protocols=(), identity=None):
        self._session = aiohttp.ClientSession()
        try:
            self._socket = await self._session.ws_connect(
                url,
                protocols=protocols,
                max_msg_size=0,
                compress=15,
                ssl=identity.context() if identity else True,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise RejectedError(error.status) from None
        return self._socket.protocol

    async def send(self, text):
        await self._socket.send_str(text)

    async def receive(self):
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return message.data
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        raise EndedError(message.data, message.extra)

    async def ping(self, payload):
        # It answers pings, or else shows pongs.
        self._socket._autoping = False
        await self._socket.ping(payload)
        message = await self._socket.receive()
        assert message.type is aiohttp.WSMsgType.PONG
        assert message.data == payload

    async def close(self, code, reason):
        await self._socket.close(code=code, message=reason.encode())
        return self._socket.close_code

    async def end(self):
        if hasattr(self, "_socket"):
            await self._socket.close()
        await self._session.close()


class WebsocketClientPeer:
    """`websocket-client`, which blocks, in a thread."""

    async def connect(self, url, protocols=(), identity=None):
        connect = functools.partial(
            websocket.create_connection,
            url,
            timeout=TIMEOUT_S,
            subprotocols=list(protocols),
            sslopt={"context": identity.context()} if identity else None,
            skip_utf8_validation=True,  # Plain Python's, which takes a second for a megabyte.
        )
        try:
            self._socket = await asyncio.to_thread(connect)
        except websocket.WebSocketBadStatusException as error:
            raise RejectedError(error.status_code) from None
        return self._socket.getsubprotocol()

    async def send(self, text):
        await asyncio.to_thread(self._socket.send, text)

    async def receive(self):
        while True:
            opcode, payload = await self._receive_frame()
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return payload.decode()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise EndedError(int.from_bytes(payload[:2], "big"), payload[2:].decode())
            assert opcode == websocket.ABNF.OPCODE_PING

    async def _receive_frame(self):
        receive = functools.partial(self._socket.recv_data, control_frame=True)
        return await asyncio.to_thread(receive)

    async def ping(self, payload):
        await asyncio.to_thread(self._socket.ping, payload)
        assert await self._receive_frame() == (websocket.ABNF.OPCODE_PONG, payload)

    async def close(self, code, reason):
        await asyncio.to_thread(self._socket.send_close, code, reason.encode())
        opcode, payload = await self._receive_frame()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(payload[:2], "big")

    async def end(self):
        if hasattr(self, "_socket"):
            await asyncio.to_thread(self._socket.shutdown)


class NodePeer:
    """`ws` for Node.js, in a process of its own."""

    async def connect(self, url, protocols=(), identity=None):
        trusted = {"NODE_EXTRA_CA_CERTS": str(identity.root_file)} if identity else {}
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(NODE_CLIENT),
            url,
            *protocols,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=4 * MEGABYTE,
            env={**os.environ, **trusted},
        )
        event = await self._event()
        if "refused" in event:
            raise RejectedError(event["refused"])
        return event["open"] or None

    async def _event(self):
        return json.loads(await self._process.stdout.readline())

    async def _tell(self, **action):
        self._process.stdin.write(json.dumps(action).encode() + b"\n")
        await self._process.stdin.drain()

    async def send(self, text):
        await self._tell(send=text)

    async def receive(self):
        event = await self._event()
        if "close" in event:
            raise EndedError(*event["close"])
        return event["message"]

    async def ping(self, payload):
        await self._tell(ping=payload.decode())
        assert await self._event() == {"pong": payload.decode()}

    async def close(self, code, reason):
        await self._tell(close=[code, reason])
        return (await self._event())["close"][0]

    async def end(self):
        self._process.stdin.close()
        await self._process.wait()


@functools.cache
def missing_for_node():
    """Say what is missing for the tests with Node; "" if nothing is."""
    if shutil.which("node") is None:
        return "node is not installed"
    found = subprocess.run(
        ["node", "-e", "require('ws')"], cwd=NODE_CLIENT.parent, capture_output=True, timeout=60
    )
    return (
        "" if found.returncode == 0 else "npm package ws is missing: npm install --prefix tests ws"
    )


@pytest.fixture(params=[WebsocketsPeer, AiohttpPeer, WebsocketClientPeer, NodePeer])
async def meet(request, serve):
    """Connect peers of one kind, which end with the test; their welcome is read."""
    if request.param is NodePeer and missing_for_node():
        pytest.skip(missing_for_node())
    async with contextlib.AsyncExitStack() as stack:

        async def connect(server, **options):
            peer = request.param()
            stack.push_async_callback(lambda: within(peer.end()))
            peer.subprotocol = await within(peer.connect(url_of(server), **options))
            if server.config.welcome:
                welcome = await received(peer)
                assert welcome["type"] == "welcome"
                peer.id = welcome["client_id"]
            return peer

        yield connect


def url_of(server):
    if server.config.tls.is_on:
        port = server.addresses[0].rpartition(":")[2]
        return f"wss://localhost:{port}/chat?room=1"
    return f"ws://{server.addresses[0]}/chat?room=1"


async def received(peer):
    return json.loads(await within(peer.receive()))


async def tell(peer, **message):
    await within(peer.send(json.dumps(message)))


async def end_of(peer):
    """Wait until a peer's WebSocket was closed; return code and reason."""
    with pytest.raises(EndedError) as ended:
        await within(peer.receive())
    return ended.value.code, ended.value.reason


@pytest.mark.parametrize("compression", COMPRESSION)
async def test_chat(serve, meet, compression):
    server = await serve(presence={"interval": 0.01}, compression=COMPRESSION[compression])
    one = await meet(server)
    presence = await received(one)
    assert [user["id"] for user in presence["users"]] == [one.id]
    two = await meet(server)
    for peer in (one, two):
        presence = await received(peer)
        assert [user["id"] for user in presence["users"]] == [one.id, two.id]

    await tell(one, message="Halo semua! é😀")
    for peer in (one, two):
        assert await received(peer) == {
            "type": "message",
            "client_id": one.id,
            "message": "Halo semua! é😀",
        }
    await tell(one, to=two.id, message={"psst": 1})
    assert await received(two) == {
        "type": "private",
        "client_id": one.id,
        "message": {"psst": 1},
    }
    for peer in (one, two):
        await tell(peer, event="subscribe", channel="chat", id=1)
        assert await received(peer) == {"type": "ack", "id": 1, "channel": "chat"}
    await tell(two, event="message", channel="chat", data=[1, 2])
    for peer in (one, two):
        assert (await received(peer))["data"] == [1, 2]
    await tell(one, command="broadcast", message="by command")
    for peer in (one, two):
        assert await received(peer) == {"type": "broadcast", "message": "by command"}
    await within(one.send("plain text"))
    for peer in (one, two):
        assert (await received(peer))["message"] == "plain text"
    await tell(one, event="nonsense", id="x")
    assert (await received(one))["code"] == "unknown_event"

    assert await within(one.close(1000, "bye")) == 1000
    presence = await received(two)
    assert [user["id"] for user in presence["users"]] == [two.id]


@pytest.mark.parametrize("compression", COMPRESSION)
async def test_messages_of_a_megabyte(serve, meet, compression):
    server = await serve(compression=COMPRESSION[compression])
    one, two = await meet(server), await meet(server)
    for content in ["x" * MEGABYTE, "é😀" * (MEGABYTE // 6)]:
        private = {"to": two.id, "message": content}
        await within(one.send(json.dumps(private, ensure_ascii=False)))
        assert (await received(two))["message"] == content
        await within(two.send(json.dumps({"message": content}, ensure_ascii=False)))
        assert (await received(one))["message"] == content
        assert (await received(two))["message"] == content
    if server.counters["compression_agreed"]:
        # Of a megabyte of the same little remains.
        assert server.counters["messages_inflated"] == 4
        assert server.counters["bytes_sent"] < MEGABYTE / 10
    else:
        assert compression == "plain" or isinstance(one, WebsocketClientPeer)


async def test_pings_of_the_peer_are_answered(server, meet):
    peer = await meet(server)
    for payload in [b"x", b"four", b"y" * 125]:
        await within(peer.ping(payload))


async def test_peer_that_answers_pings_stays(serve, meet):
    server = await serve(ping_interval=0.1, ping_timeout=0.6)
    peer = await meet(server)
    # Some peers answer only while they wait for a message.
    receiving = asyncio.ensure_future(received(peer))
    await until(lambda: server.counters["pings_sent"] >= 8)
    server.broadcast("still there")
    assert (await receiving)["message"] == "still there"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (3001, "é" * 61)])
async def test_code_of_the_peer_is_answered_and_seen(make_server, serve, meet, code, reason):
    server = make_server()
    ends = []
    server.on("disconnect")(lambda client: ends.append((client.close_code, client.close_reason)))
    peer = await meet(await serve(server))
    assert await within(peer.close(code, reason)) == code
    assert ends == [(code, reason)]


async def test_code_of_the_server_is_seen(serve, meet):
    server = await serve(max_buffer_size=10_000)
    peer = await meet(server)
    server.disconnect(peer.id)
    assert await end_of(peer) == (4000, "disconnected by server")

    peer, other = await meet(server), await meet(server)
    await tell(other, command="disconnect", client_id=peer.id)
    assert await end_of(peer) == (4000, "disconnected by command")

    peer = await meet(server)
    await tell(peer, message="x" * 20_000)
    code, reason = await end_of(peer)
    assert code == 1009
    assert reason


async def test_stop_of_the_server_is_seen_as_1001(make_server, meet):
    async with make_server() as server:
        peer = await meet(server)
        ending = asyncio.ensure_future(leave_when_closed(peer))
    assert await ending == 1001


async def leave_when_closed(peer):
    code, _ = await end_of(peer)
    await peer.end()
    return code


async def test_refusal_is_understood(serve, meet):
    for status, settings in [
        (403, {"origin_required": True, "allowed_origins": ["https://example.com"]}),
        (404, {"path": "/elsewhere"}),
        (400, {"allowed_hosts": ["example.com"]}),
    ]:
        server = await serve(**settings)
        with pytest.raises(RejectedError) as rejected:
            await meet(server)
        assert rejected.value.status == status


async def test_subprotocol_is_agreed_on(serve, meet):
    server = await serve(supported_protocols=["json", "soap"])
    peer = await meet(server, protocols=["v2", "soap", "json"])
    assert peer.subprotocol == "soap"
    assert server.clients[peer.id].path == "/chat"
