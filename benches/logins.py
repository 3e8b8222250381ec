"""
How much CPU a handshake with a Rakit session costs, beside one without.

    python benches/logins.py                  # 20,000 handshakes of each kind
    python benches/logins.py --quick

The server is a process of its own, with sessions in files and users in SQLite, both made here;
where there are two cores it has one of them. What counts is its CPU time for a handshake, from
/proc/PID/stat, kernel included. It is taken for each tenth of the handshakes: the lowest of all tenths is
what other programs on the machine have disturbed least.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from machine import cpu_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = "5b0e6c1a-93d7-4f28-8a46-d1c27e9f03b5"
WRONG_KEY = KEY.replace("5b0e", "6b0e")
LOGIN = b"system_auth_drivers_magic_login"
USERS = 5_000
WARM_UP = 500
TENTHS = 10
IN_FLIGHT = 32
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no connection waits for its end

REQUEST = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Origin: http://127.0.0.1\r\n{cookie}\r\n"
)

CONFIG = """
port = 0
log_level = "warning"
{tables}
[presence]
enabled = false
"""

# Says at its end how many it knew.
SERVER = """
from rakit_ws import Server

server = Server()


@server.on("start")
def start(server):
    print("listening=" + server.addresses[0].rpartition(":")[2], flush=True)


@server.on("stop")
def stop(server):
    print("identified=%d" % server.counters["users_identified"], flush=True)
"""

TABLES = """
[auth]
sources = ["rakit"]
[rakit]
key = "{key}"
session_path = "{folder}/sessions"
database_url = "sqlite:///{folder}/users.sqlite"
user_cache = {cache}
"""


class Figure(NamedTuple):
    """What one kind of handshake cost."""

    cpu_us: float
    """Its median."""
    lowest_us: float
    """Of its tenth that cost least."""


def main() -> None:
    """Measure every kind, in rounds that take turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer handshakes, one round")
    parser.add_argument("--count", type=int, default=20_000, help="handshakes of each kind a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    count, rounds = (3_000, 1) if arguments.quick else (arguments.count, arguments.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_application(folder)
        results: dict[str, list[Figure]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind in KINDS:
                results[kind].append(measured(folder, kind, count))
    show(results)


def show(results: dict[str, list[Figure]]) -> None:
    """Print a table; the ratio is to the handshake of a server without sources."""
    print(
        "| handshake | server CPU, µs | lowest | ratio of the lowest | then a second of one core |"
    )
    print("|---|---|---|---|---|")
    base = 0.0
    for kind, figures in results.items():
        middle = statistics.median(each.cpu_us for each in figures)
        lowest = min(each.lowest_us for each in figures)
        base = base or lowest
        print(
            f"| {kind} | {middle:.0f} | {lowest:.0f} | {lowest / base:.2f} | {1e6 / lowest:,.0f} |"
        )


# --- The application --------------------------------------------------------------------------


def make_application(folder: Path) -> None:
    """Make users, and a session for each."""
    (folder / "sessions").mkdir()
    with sqlite3.connect(folder / "users.sqlite") as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT)")
        rows = ((n, f"User {n}", f"user{n}@example.com") for n in range(1, USERS + 1))
        connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
    connection.close()
    for number in range(1, USERS + 1):
        name = hashlib.sha1(session_id(number).encode()).hexdigest()
        content = b"<?php defined('DS') or exit('No direct access.');?>" + record(number)
        (folder / "sessions" / f"{name}.session.php").write_bytes(content)


def record(number: int) -> bytes:
    """Serialize a session as the framework does, with what a small application has in it."""
    text = f'a:3:{{s:2:"id";s:40:"{session_id(number)}";s:4:"data";a:6:{{s:5:":new:";a:0:{{}}'
    text += f's:5:":old:";a:0:{{}}s:31:"{LOGIN.decode()}";i:{number};s:10:"csrf_token";s:40:"'
    text += "t" * 40 + '";s:4:"cart";a:2:{i:0;a:2:{s:2:"id";i:7;s:3:"qty";i:2;}i:1;a:2:{s:2:"id";'
    text += 'i:9;s:3:"qty";i:1;}}s:6:"locale";s:2:"id";}'
    return (text + f's:13:"last_activity";i:{int(time.time())};}}').encode()


def session_id(number: int) -> str:
    """Return the id of a user's session."""
    return f"{number:040}"


def cookie(number: int, key: str = KEY) -> str:
    """Encrypt a session's id as the framework does."""
    iv = os.urandom(16)
    padded = session_id(number).encode() + bytes([8]) * 8
    encryptor = Cipher(algorithms.AES(key.encode()[:32]), modes.CBC(iv)).encryptor()
    members = {
        "iv": base64.b64encode(iv).decode(),
        "value": base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode(),
    }
    signed = (members["iv"] + members["value"]).encode()
    members["mac"] = hmac.new(key.encode(), signed, "sha256").hexdigest()
    value = base64.b64encode(json.dumps(members).encode()).decode().replace("=", "%3D")
    return f"Cookie: rakit_session={value}\r\n"


# --- The kinds --------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How the server is set up, and the Cookie lines that handshakes have in turn."""

    has_source: bool = True
    cache_s: float = 5
    cookies: Sequence[str] = ("",)
    identifies: bool = False


RIGHT = [cookie(number) for number in range(1, USERS + 1)]
WRONG = [cookie(number, WRONG_KEY) for number in range(1, 101)]
KINDS = {
    "no source": Kind(has_source=False),
    "no cookie": Kind(),
    "wrong MAC": Kind(cookies=WRONG),
    f"logged in, {USERS:,} users in turn": Kind(cookies=RIGHT, identifies=True),
    "the same, no row kept": Kind(cookies=RIGHT, identifies=True, cache_s=0),
    "logged in, one user": Kind(cookies=RIGHT[:1], identifies=True),
}


def measured(folder: Path, name: str, count: int) -> Figure:
    """Start a server, shake hands, and return what it cost the server."""
    kind = KINDS[name]
    tables = TABLES.format(key=KEY, folder=folder, cache=kind.cache_s) if kind.has_source else ""
    (folder / "rakit_ws.toml").write_text(CONFIG.format(tables=tables))
    (folder / "bench_server.py").write_text(SERVER)
    words = [sys.executable, "-m", "rakit_ws", "run", "--app", "bench_server:server"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            port = port_of(folder / "log", process)
            pin(process.pid)
            asyncio.run(shake(port, kind, WARM_UP))
            costs = [cost_us(process.pid, port, kind, count // TENTHS) for _ in range(TENTHS)]
        finally:
            process.terminate()
            process.wait()
    count = count // TENTHS * TENTHS
    known = int((folder / "log").read_text().rpartition("identified=")[2])
    if known != (count + WARM_UP if kind.identifies else 0):
        raise SystemExit(f"{name}: {known} of {count + WARM_UP} were known")
    return Figure(statistics.median(costs), min(costs))


def cost_us(pid: int, port: int, kind: Kind, count: int) -> float:
    """Shake hands; return the microseconds of CPU for each."""
    before = cpu_s(pid)
    asyncio.run(shake(port, kind, count))
    return (cpu_s(pid) - before) / count * 1e6


def port_of(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the server listens; return where."""
    while "listening=" not in log.read_text():
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.02)
    return int(log.read_text().partition("listening=")[2].split()[0])


def pin(pid: int) -> None:
    """Give the server one core, and this process another, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        # All threads that there are; later ones inherit it.
        subprocess.run(
            ["taskset", "-a", "-p", "-c", str(cores[-1]), str(pid)], check=True, capture_output=True
        )
        os.sched_setaffinity(0, cores[:1])


async def shake(port: int, kind: Kind, count: int) -> None:
    """Shake hands `count` times, IN_FLIGHT at a time."""
    numbers = iter(range(count))
    await asyncio.gather(*(worker(port, kind, numbers) for _ in range(IN_FLIGHT)))


async def worker(port: int, kind: Kind, numbers: Iterator[int]) -> None:
    """Shake hands until the numbers run out."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        sock = socket.socket()
        sock.settimeout(0)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(
            sock, REQUEST.format(cookie=kind.cookies[number % len(kind.cookies)]).encode()
        )
        answer = await loop.sock_recv(sock, 4096)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise SystemExit(answer.decode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()


if __name__ == "__main__":
    main()
