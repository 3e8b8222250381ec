"""The servers that are measured: how each is started, watched and stopped. Linux only."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios import Application

ROOT = Path(__file__).resolve().parent.parent
PEERS_DIRECTORY = ROOT / "benches" / "peers"
NODE_MODULES = PEERS_DIRECTORY / "node_modules"
START_S = 15.0
STOP_S = 5.0


@dataclass(frozen=True)
class Server:
    """How to start a server for each application; `{port}` is filled in."""

    name: str
    echo: tuple[str, ...]
    channel: tuple[str, ...]
    # As `channel`, where that has to be told more.
    growth: tuple[str, ...] = ()
    # What compresses without context takeover; empty where it cannot.
    deflate: tuple[str, ...] = ()
    echo_path: str = "/"
    modules: tuple[str, ...] = ()
    package: str = ""

    def command(self, application: Application, port: int) -> list[str]:
        """Return the command that serves an application at a port of 127.0.0.1."""
        words = {
            "echo": self.echo,
            "channel": self.channel,
            "growth": self.growth or self.channel,
            "deflate": self.deflate,
        }[application]
        return [word.format(port=port) for word in words]

    def serves(self, application: Application) -> bool:
        """Whether it has what the application needs."""
        return application != "deflate" or bool(self.deflate)

    @property
    def lacks(self) -> str:
        """What of it is not installed here; empty if nothing."""
        if any(importlib.util.find_spec(module) is None for module in self.modules):
            return "not installed (pip install '.[bench]')"
        if self.package and not (NODE_MODULES / self.package).exists():
            return f"not installed ({NPM_INSTALL})"
        if shutil.which(self.echo[0]) is None:
            return f"no {Path(self.echo[0]).name} here"
        return ""

    @property
    def versions(self) -> dict[str, str]:
        """What runs when it is measured."""
        versions = {module: metadata.version(module.replace("_", "-")) for module in self.modules}
        if self.package:
            described = NODE_MODULES / self.package / "package.json"
            versions[self.package] = json.loads(described.read_text("utf-8"))["version"]
        if Path(self.echo[0]).name == "node":
            said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
            versions["node"] = said.stdout.strip()
        return versions


NPM_INSTALL = "npm install --prefix benches/peers --no-package-lock --ignore-scripts"


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, *words, "--port", "{port}")


def python_peer(name: str, *further: str, deflates: bool = False) -> Server:
    command = python(str(PEERS_DIRECTORY / f"{name}_server.py"))
    return Server(
        name,
        echo=command,
        channel=command,
        deflate=(*command, "--deflate") if deflates else (),
        echo_path="/echo",
        modules=(name, *further),
    )


def script_peer(name: str, program: str, package: str) -> Server:
    command = (program, str(PEERS_DIRECTORY / f"{name}_server.mjs"), "--port", "{port}")
    return Server(
        name,
        echo=(*command, "--echo"),
        channel=command,
        deflate=(*command, "--deflate"),
        package=package,
    )


RUN = python("-m", "rakit_ws", "run", "--log-level", "warning")
RAKIT_WS = Server(
    "rakit_ws",
    echo=python(str(ROOT / "examples" / "echo.py")),
    channel=RUN,
    growth=(
        *("env", "RAKIT_WS_PRESENCE_ENABLED=false", "RAKIT_WS_MAX_CHANNELS_PER_CLIENT=10000"),
        *RUN,
    ),
    deflate=("env", "RAKIT_WS_COMPRESSION_ENABLED=true", *RUN),
    modules=("rakit_ws", "uvloop", "msgspec"),
)
PEERS = {
    peer.name: peer
    for peer in (
        script_peer(
            "bun", str(NODE_MODULES / "@oven/bun-linux-x64/bin/bun"), "@oven/bun-linux-x64"
        ),
        python_peer("picows"),
        python_peer("websockets", deflates=True),
        python_peer("aiohttp", deflates=True),
        python_peer("uvicorn", "websockets", "httptools"),
        python_peer("socketify"),
        script_peer("ws", "node", "ws"),
    )
}


def peers_named(text: str) -> list[Server]:
    """Read names of peers, as an argument: one that is not installed is a mistake, too."""
    names = dict.fromkeys(name for name in text.split(",") if name)
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PEERS)}")
        if lacks := PEERS[name].lacks:
            raise argparse.ArgumentTypeError(f"{name}: {lacks}")
    return [PEERS[name] for name in names]


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
        try:
            with on_core(0):
                process = subprocess.Popen(
                    server.command(application, port),
                    cwd=directory,  # No configuration of the place where this was called.
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as error:
            raise RunError(f"the server does not start: {error}") from None
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
