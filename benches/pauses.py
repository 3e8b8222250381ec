"""
What the garbage collector costs: its pauses while clients connect and send, and a full collection.

    python benches/pauses.py [--clients 15000]

A server that has the process to itself sets aside what is there when it has started
(`gc.freeze`); one that is embedded does not. Both run here, each in a process of its own, with so
many clients at rest and 50 more that send. The full collection is made on purpose, with all of
them there. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from typing import Any

from rich.progress import Progress
from rich.table import Table

import machine
from effort import Effort
from load import Bench, console, generator
from rakit_ws import Client, Server
from scenarios import channel
from servers import RAKIT_WS, await_port, free_port, on_core, stop

FULL_COLLECTIONS = 3
EFFORT = Effort(rounds=1, warmup_s=0.5, seconds=3.0)


class Watch:
    """Counts the collections of this process, and how long they take."""

    def __init__(self) -> None:
        self.pauses_ms: list[list[float]] = [[], [], []]
        self._began_s = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        else:
            took_s = time.perf_counter() - self._began_s
            self.pauses_ms[info["generation"]].append(took_s * 1000)


def serve(port: int, clients: int, *, aside: bool) -> None:
    """Be the server; write one line of JSON when all clients have been there for a while."""
    server = Server(
        port=port, log_level="warning", max_connections=clients + 100, max_connections_per_ip=0
    )
    watch = Watch()
    full_ms: list[float] = []
    all_here = asyncio.Event()

    @server.on("connect")
    def connected(_client: Client) -> None:
        if len(server.clients) >= clients:
            all_here.set()

    async def look() -> None:
        await all_here.wait()
        await asyncio.sleep(EFFORT.warmup_s + EFFORT.seconds / 2)  # while the load is on
        pauses_ms = [list(each) for each in watch.pauses_ms]
        for _ in range(FULL_COLLECTIONS):
            began_s = time.perf_counter()
            gc.collect()
            full_ms.append((time.perf_counter() - began_s) * 1000)
        print(json.dumps({"pauses_ms": pauses_ms, "full_ms": full_ms}), flush=True)

    async def embedded() -> None:
        async with server:
            await asyncio.gather(look(), server.serve_forever())

    if aside:
        tasks: list[asyncio.Task[None]] = []
        server.on("start")(lambda _server: tasks.append(asyncio.ensure_future(look())))
        raise SystemExit(server.run())
    import uvloop

    uvloop.run(embedded())


def measured(bench: Bench, clients: int, *, aside: bool) -> dict[str, Any]:
    """Run a server under load; return what it has written."""
    port = free_port()
    command = [sys.executable, __file__, "--serve", str(port), "--clients", str(clients)]
    with on_core(0):
        server = subprocess.Popen(
            [*command, *(["--aside"] if aside else [])], stdout=subprocess.PIPE
        )
    try:
        await_port(server, port)
        scenario = channel(50, 32).beside(clients)
        bench.load(scenario, RAKIT_WS, server.pid, port, lambda _phase: None)
        line = server.stdout.readline() if server.stdout else b""
        return dict(json.loads(line))
    finally:
        stop(server)


def print_table(rows: dict[str, dict[str, Any]], clients: int) -> None:
    table = Table(
        title=f"{clients:,} clients at rest, 50 that send", title_justify="left", box=None
    )
    for heading in ("", "young", "longest ms", "middle", "longest ms", "old", "full ms"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        young, middle, old = row["pauses_ms"]
        cells = [f"{len(young)}", longest(young), f"{len(middle)}", longest(middle), f"{len(old)}"]
        table.add_row(name, *cells, f"{sorted(row['full_ms'])[1]:.1f}")
    console.print(table)


def longest(pauses_ms: list[float]) -> str:
    return f"{max(pauses_ms, default=0):.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the pauses of the garbage collector.")
    parser.add_argument("--clients", type=int, default=15_000, metavar="N")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--aside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.clients, aside=arguments.aside)
    machine.require_linux()
    machine.raise_descriptor_limit()
    bench = Bench(generator(), EFFORT)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        rows = {
            name: measured(bench, arguments.clients, aside=aside)
            for name, aside in progress.track({"embedded": False, "set aside": True}.items())
        }
    print_table(rows, arguments.clients)
    return 0


if __name__ == "__main__":
    sys.exit(main())
