"""
A WebSocket client for tests: it can send what no well-behaved peer would.

It shares no code with the project, so that a fault in the project's codec cannot hide itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
from dataclasses import dataclass

TIMEOUT_S = 10
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = bytes.fromhex("37fa213d")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode, payload=b"", *, fin=True, reserved=0, mask=MASK, length=None, length_bytes=None):
    """
    Make a frame (RFC 6455 §5.2), sound or not.

    `mask` None leaves it unmasked. `length` is what the header claims, `length_bytes` (0, 2 or
    8) how wide the extended length is; both are right if not given.
    """
    if isinstance(payload, str):
        payload = payload.encode()
    if length is None:
        length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 1 << 16 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    header = bytes([first, (0 if mask is None else 0x80) | short])
    header += length.to_bytes(length_bytes, "big") if length_bytes else b""
    return header + payload if mask is None else header + mask + masked(payload, mask)


def masked(payload, mask):
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return mixed.to_bytes(len(payload), "big")


def text(content):
    """Make a text frame; anything but a string or bytes is sent as JSON."""
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    return frame(TEXT, content)


def close(code=None, reason=""):
    """Make a Close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def request(target="/", *, without=(), headers=(), method="GET", version="HTTP/1.1", **replaced):
    """
    Make an opening handshake: the sound one, but for what is asked.

    `without` names headers to leave out, `headers` are (name, value) pairs to add, and a keyword
    such as `sec_websocket_version` replaces the value of that header.
    """
    sound = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    lines = [f"{method} {target} {version}"]
    for name, value in sound.items():
        if name not in without:
            lines.append(f"{name}: {replaced.pop(name.lower().replace('-', '_'), value)}")
    assert not replaced, replaced
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def accept_value(key):
    """Return what `Sec-WebSocket-Accept` must be (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


@dataclass
class Response:
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict
    body: str
    raw_headers: list

    def __post_init__(self):
        # No header may be there twice: all of ours have one value.
        assert len(self.headers) == len(self.raw_headers), self.raw_headers


@dataclass
class Frame:
    """A frame from the server, which is never masked."""

    opcode: int
    payload: bytes
    fin: bool


def strict_json(received):
    """Read JSON as a browser does: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(received, parse_constant=refuse)


class RawClient:
    """One connection. Every read fails after TIMEOUT_S."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.id = None
        self.response = None

    @classmethod
    async def open(cls, address, *, receive_buffer=None, source=None, tls=None):
        """
        Connect to `host:port`, `[host]:port` or `unix:/path`; nothing is sent yet.

        `source` is the IP address to come from; `receive_buffer` bounds what the kernel and
        this client hold of what is not read. `tls` is the context to speak TLS with.
        """
        options = {} if tls is None else {"ssl": tls, "server_hostname": "localhost"}
        if address.startswith("unix:"):
            opened = asyncio.open_unix_connection(address.removeprefix("unix:"), **options)
            return cls(*await within(opened))
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if receive_buffer is None:
            local = None if source is None else (source, 0)
            opened = asyncio.open_connection(host, int(port), local_addr=local, **options)
            return cls(*await within(opened))
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Only before connecting does it bound the window that the server sees.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await within(asyncio.get_running_loop().sock_connect(sock, (host, int(port))))
        opened = asyncio.open_connection(sock=sock, limit=receive_buffer, **options)
        return cls(*await within(opened))

    # --- sending ------------------------------------------------------------------------------

    async def send(self, *pieces):
        """Send bytes as they are, each piece on its own; other things as JSON in a text frame."""
        for piece in pieces:
            data = piece if isinstance(piece, bytes) else text(piece)
            self.writer.write(data)
            # A server that has given up on us resets; what it said is read all the same.
            with contextlib.suppress(ConnectionError):
                await within(self.writer.drain())

    async def send_slowly(self, data, size=1):
        """Send in pieces of `size` bytes, each as a segment of its own."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(0)

    def end(self):
        """Close our half of TCP."""
        self.writer.write_eof()

    def reset(self):
        """Let TCP end with a RST."""
        linger = struct.pack("ii", 1, 0)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def aclose(self):
        """Let TCP end."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await within(self.writer.wait_closed())

    # --- the opening handshake ----------------------------------------------------------------

    async def read_response(self):
        """Read a response, its body too unless it is 101."""
        head = (await within(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        version, status, phrase = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        assert phrase
        pairs = [tuple(line.split(": ", 1)) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        size = int(headers.get("content-length", 0))
        body = await within(self.reader.readexactly(size))
        self.response = Response(int(status), headers, body.decode(), pairs)
        return self.response

    async def handshake(self, target="/", **options):
        """Open the WebSocket; the server must accept."""
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(request(target, sec_websocket_key=key, **options))
        response = await self.read_response()
        assert response.status == 101, response
        assert response.headers["sec-websocket-accept"] == accept_value(key)
        return response

    # --- receiving ----------------------------------------------------------------------------

    async def read_frame(self):
        """Read one frame."""
        first, second = await within(self.reader.readexactly(2))
        assert not first & 0x70, "reserved bits without an extension"
        assert not second & 0x80, "a server's frame must not be masked"
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(await within(self.reader.readexactly(2)), "big")
            assert length >= 126, "length not in its shortest form"
        elif length == 127:
            length = int.from_bytes(await within(self.reader.readexactly(8)), "big")
            assert length >= 1 << 16, "length not in its shortest form"
        payload = await within(self.reader.readexactly(length))
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    async def receive_text(self):
        """Read the next text message, as its bytes came."""
        received = await self.read_frame()
        assert received.fin
        assert received.opcode == TEXT, received
        return received.payload.decode()

    async def receive(self):
        """Read the next message: one JSON object with `type` as its first key (ground rule 1)."""
        received = await self.receive_text()
        message = strict_json(received)
        assert isinstance(message, dict), received
        assert received.startswith('{"type":"'), received
        return message

    async def receive_close(self):
        """Read a Close, which must come next; return its code and reason, None for no code."""
        received = await self.read_frame()
        assert received.opcode == CLOSE, received
        assert received.fin
        if not received.payload:
            return None, ""
        return int.from_bytes(received.payload[:2], "big"), received.payload[2:].decode()

    async def receive_until_close(self):
        """Read to the Close; return the text messages before it, and its code."""
        messages = []
        while True:
            received = await self.read_frame()
            if received.opcode == CLOSE:
                return messages, int.from_bytes(received.payload[:2], "big")
            if received.opcode == TEXT:
                messages.append(received.payload.decode())

    async def at_end(self):
        """Wait for the end of TCP; tell whether nothing came before it."""
        with contextlib.suppress(ConnectionError):
            return await within(self.reader.read()) == b""
        return True

    async def ask(self, message, request_id="fence"):
        """Send an object with an id and read its answer, which must come next."""
        await self.send({**message, "id": request_id})
        answer = await self.receive()
        assert answer.get("id") == request_id, answer
        return answer

    async def fence(self):
        """Check that nothing had been sent to this client that was not read yet."""
        assert await self.ask({"ping": 1}) == {"type": "pong", "id": "fence"}


async def within(awaitable):
    """Wait for something, but not for ever."""
    return await asyncio.wait_for(awaitable, TIMEOUT_S)
