"""The servers that are measured: how each is started, watched and stopped. Linux only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios import Application

ROOT = Path(__file__).resolve().parent.parent
START_S = 15.0
STOP_S = 5.0


@dataclass(frozen=True)
class Server:
    """How to start a server for each application; `{port}` is filled in."""

    name: str
    module: str
    echo: tuple[str, ...]
    channel: tuple[str, ...]
    echo_path: str = "/"

    def command(self, application: Application, port: int) -> list[str]:
        """Return the command that serves an application at a port of 127.0.0.1."""
        words = self.echo if application == "echo" else self.channel
        return [word.format(port=port) for word in words]


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, *words, "--port", "{port}")


def peer(name: str) -> Server:
    command = python(str(ROOT / "benches" / "peers" / f"{name}_server.py"))
    return Server(name, name, command, command, echo_path="/echo")


RAKIT_WS = Server(
    "rakit_ws",
    "rakit_ws",
    echo=python(str(ROOT / "examples" / "echo.py")),
    channel=python("-m", "rakit_ws", "run", "--log-level", "warning"),
)
PEERS = {name: peer(name) for name in ("picows", "websockets")}


class RunError(Exception):
    """A server or the generator did not do what it should; the message says what it said."""


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """Let processes that are started meanwhile run on one core, if there are two."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(0, {sorted(cores)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def running(server: Server, application: Application) -> Iterator[tuple[int, int]]:
    """Start a server; yield its process id and its port; stop it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as log:
        with on_core(0):
            process = subprocess.Popen(
                server.command(application, port),
                cwd=directory,  # No configuration of the place where this was called.
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            await_port(process, port)
            yield process.pid, port
        except RunError as error:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            raise RunError(f"{error}\n{said[-2000:]}".strip()) from None
        finally:
            stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RunError(f"the server exited with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RunError(f"the server does not listen after {START_S:.0f} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
