"""
Minutes of churn, after which the server must be what it was.

    python tests/soak/soak.py [--minutes 10] [--clients 60] [--tls] [--seed 1] [--plot FILE]

A server in a process of its own, with short deadlines and small limits (`app.py`), and clients that
connect, subscribe, publish, stall, vanish, break the protocol, ask half a handshake (`lives.py`). After a
warm-up, in which allocators and caches take what they keep, the server comes to rest and is measured;
after the churn it comes to rest and is measured again. Ends with 1 if the two differ by more than the
table says, a client got a wrong answer or none, or the server logged an error. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from lives import LIVES, Place  # noqa: E402

from identities import authority  # noqa: E402
from raw_client import PING, PONG, TEXT, Frame, RawClient, frame  # noqa: E402

PLOT = HERE.parents[1] / "benches" / "results" / "soak.svg"
SAMPLE_S = 1.0
# Longer than every deadline of app.py.
REST_S = 18.0
# What came at rest may differ by. Memory is what the system counts as resident: allocators keep
# some of what was freed, and how much depends on where the last blocks lay.
TOLERANCE = {
    "resident memory, KiB": 6 * 1024,
    "descriptors": 0,
    "threads": 0,
    "clients": 0,
    "channels": 0,
    "subscriptions": 0,
    "tasks": 0,
    "Python objects": 200,
}
SHOWN = list(TOLERANCE)

console = Console(highlight=False)


@dataclass(frozen=True)
class Sample:
    """What the server has, and how far it had counted, at a moment of the run."""

    at_s: float
    phase: str
    has: dict[str, int]
    counters: dict[str, int]


async def read_frame(client):
    """Read a frame, however long that takes."""
    first, second = await client.reader.readexactly(2)
    length = second & 0x7F
    if length > 125:
        width = 2 if length == 126 else 8
        length = int.from_bytes(await client.reader.readexactly(width), "big")
    return Frame(first & 0x0F, await client.reader.readexactly(length), fin=True)


class Subject:
    """The server under test, and a client that asks it what it has."""

    def __init__(self, process, log, tls):
        self.process = process
        self.log = log
        self.tls = tls
        self.began = time.monotonic()
        self.samples = []

    @classmethod
    def start(cls, log_path, identity):
        """Start the server; what it says goes to a file."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log = log_path.open("w+")
        command = [sys.executable, "-m", "rakit_ws", "run", "--app", "app:server"]
        environment = dict(os.environ)
        if identity is not None:
            environment |= {
                "SOAK_CERTIFICATE": str(identity.certificate),
                "SOAK_KEY": str(identity.key),
            }
        process = subprocess.Popen(
            [*command, "--log-level", "warning"], cwd=HERE, stdout=log, stderr=log, env=environment
        )
        return cls(process, log, None if identity is None else identity.context())

    async def attach(self):
        """Wait until it listens, and connect the client that asks."""
        while (listening := re.search(r"listening on wss?://(\S+:\d+)", self.logged())) is None:
            assert self.process.poll() is None, self.logged()
            await asyncio.sleep(0.05)
        self.address = listening[1]
        self.control = await RawClient.open(self.address, tls=self.tls)
        await self.control.handshake()
        self.answers = asyncio.Queue()
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        """Answer Pings and keep answers, whatever else is going on; ends with the connection."""
        while True:
            received = await read_frame(self.control)
            if received.opcode == PING:
                await self.control.send(frame(PONG, received.payload))
            elif received.opcode == TEXT:
                message = json.loads(received.payload)
                if message.get("id") == "tables":
                    self.answers.put_nowait(message["result"])
            else:
                raise AssertionError(f"the client that asks was closed: {received}")

    async def sample(self, phase, *, collect=False):
        """Ask what the server has; keep it."""
        await self.control.send({"command": "tables", "collect": collect, "id": "tables"})
        answer = asyncio.ensure_future(self.answers.get())
        await asyncio.wait([answer, self.reading], timeout=60, return_when="FIRST_COMPLETED")
        if not answer.done():
            answer.cancel()
            await self.reading
            raise AssertionError("the server does not answer")
        tables = answer.result()
        has = {
            **self.process_has(),
            "clients": tables["clients"],
            "channels": tables["channels"],
            "subscriptions": tables["subscriptions"],
            "tasks": tables["tasks"],
            "Python objects": tables["objects"],
        }
        taken = Sample(time.monotonic() - self.began, phase, has, tables["counters"])
        self.samples.append(taken)
        return taken

    def process_has(self):
        """Read what the system knows about the process."""
        proc = Path("/proc") / str(self.process.pid)
        status = (proc / "status").read_text()
        return {
            "resident memory, KiB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]),
            "descriptors": len(list((proc / "fd").iterdir())),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
        }

    def logged(self):
        """Return what the server has said."""
        self.log.flush()
        return Path(self.log.name).read_text()

    def stop(self):
        """Stop it; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Churn:
    """Clients that come and go, and how each life ended."""

    def __init__(self, address, tls, clients, seed):
        self.place = Place(address, random.Random(seed), tls)
        self.clients = clients
        self.ended = collections.Counter()
        self.faults = []

    async def run(self, seconds):
        """Keep so many clients alive for so long."""
        until = time.monotonic() + seconds
        lives = (self._live_until(until, number / self.clients) for number in range(self.clients))
        await asyncio.gather(*lives)

    async def _live_until(self, until, delay_s):
        await asyncio.sleep(delay_s)
        while time.monotonic() < until:
            (live,) = self.place.random.choices(list(LIVES), LIVES.values())
            await self._live(live)
            await asyncio.sleep(self.place.random.uniform(0, 0.2))

    async def _live(self, live):
        try:
            await live(self.place)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            # The server may reset whom it has refused; what it must not do is be silent.
            self.ended[live.__name__, type(error).__name__] += 1
        except Exception as fault:
            if isinstance(fault, RuntimeError) and "closed" in str(fault):
                # How uvloop says that the server has reset us.
                self.ended[live.__name__, "ConnectionResetError"] += 1
                return
            self.ended[live.__name__, "FAULT"] += 1
            self.faults.append(f"{live.__name__}: {type(fault).__name__} {fault}"[:300])
        else:
            self.ended[live.__name__, "as it should"] += 1


class Show:
    """The bar and the figures behind it."""

    def __init__(self, subject, churn, progress):
        self.subject = subject
        self.churn = churn
        self.progress = progress

    async def phase(self, name, seconds, work=None):
        """Run a phase of the soak, with a sample each second; return the last one."""
        bar = self.progress.add_task(name, total=seconds, figures="")
        began = time.monotonic()
        working = asyncio.create_task(work or asyncio.sleep(seconds))
        while not working.done():
            sample = await self.subject.sample(name)
            figures = "  ".join(
                f"{sample.has[key]:,} {label}"
                for key, label in [
                    ("resident memory, KiB", "KiB"),
                    ("descriptors", "fds"),
                    ("clients", "clients"),
                    ("channels", "channels"),
                ]
            )
            lives = sum(self.churn.ended.values())
            self.progress.update(
                bar,
                completed=min(time.monotonic() - began, seconds),
                figures=f"{figures}  {lives:,} lives",
            )
            await asyncio.wait([working], timeout=SAMPLE_S)
        await working
        self.progress.update(bar, completed=seconds)


async def soak(arguments):
    """Start a server and examine it; tell whether it passed."""
    with tempfile.TemporaryDirectory() as directory:
        identity = authority().issue(Path(directory)) if arguments.tls else None
        subject = Subject.start(arguments.plot.with_suffix(".log"), identity)
        try:
            return await examine(subject, arguments)
        finally:
            subject.process.kill()


async def examine(subject, arguments):
    """Go through all phases; tell whether the server passed."""
    await subject.attach()
    churn = Churn(subject.address, subject.tls, arguments.clients, arguments.seed)
    console.print(f"server {subject.process.pid} on {subject.address}, seed {arguments.seed}")
    seconds = arguments.minutes * 60
    with Progress(
        TextColumn("{task.description:8}"),
        BarColumn(bar_width=24),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
    ) as progress:
        show = Show(subject, churn, progress)
        warm_up_s = max(3, min(90, seconds / 6))
        await show.phase("warm-up", warm_up_s, churn.run(warm_up_s))
        await show.phase("rest", REST_S)
        begin = await subject.sample("begin", collect=True)
        await show.phase("churn", seconds, churn.run(seconds))
        await show.phase("rest", REST_S)
        end = await subject.sample("end", collect=True)
    subject.reading.cancel()
    code = await asyncio.to_thread(subject.stop)
    logged = subject.logged()
    plot(subject.samples, arguments.plot)
    print_lives(churn)
    passed = [
        print_verdict(subject.samples, begin, end),
        verdict(
            "clients got what they should", not churn.faults, list(dict.fromkeys(churn.faults))[:9]
        ),
        verdict("every closed client was counted", balanced(end), [end.counters]),
        verdict("exit code 0", code == 0, [code]),
        verdict("no error logged", not errors_in(logged), errors_in(logged)[:5]),
    ]
    console.print(f"plot: {arguments.plot}")
    return all(passed)


# --- What it says


def balanced(sample):
    counters = sample.counters
    return counters["opened"] - counters["closed"] == sample.has["clients"]


def errors_in(logged):
    return [
        line for line in logged.splitlines() if re.search(r" (ERROR|CRITICAL) |Traceback", line)
    ]


def verdict(what, passed, details):
    console.print(f"{'passed' if passed else 'FAILED'}: {what}", style="green" if passed else "red")
    if not passed:
        for detail in details:
            console.print(f"    {detail}")
    return passed


def print_lives(churn):
    table = Table("life", *(endings := sorted({ending for _, ending in churn.ended})))
    for live in LIVES:
        name = live.__name__
        table.add_row(name, *(str(churn.ended[name, ending]) for ending in endings))
    console.print(table)


def print_verdict(samples, begin, end):
    """Print what the server had before and after; tell whether that is the same."""
    table = Table("at rest", "before", "most", "after", "may differ by", "")
    passed = True
    for name in SHOWN:
        most = max(sample.has[name] for sample in samples)
        grown = end.has[name] - begin.has[name]
        # Memory given back is no leak; of the rest, less is as wrong as more.
        good = grown <= TOLERANCE[name] and (grown >= 0 or TOLERANCE[name] > 0)
        passed &= good
        table.add_row(
            name,
            f"{begin.has[name]:,}",
            f"{most:,}",
            f"{end.has[name]:,}",
            f"{TOLERANCE[name]:,}",
            "passed" if good else "FAILED",
        )
    console.print(table)
    return passed


def plot(samples, path):
    """Draw everything that was sampled over time, one panel each."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    drawn = [name for name in SHOWN if name != "Python objects"]
    figure, axes = pyplot.subplots(len(drawn), sharex=True, figsize=(9, 1.6 * len(drawn)))
    times = [sample.at_s for sample in samples]
    for name, axis in zip(drawn, axes, strict=True):
        axis.plot(times, [sample.has[name] for sample in samples], linewidth=1)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        for before, after in itertools.pairwise(samples):
            if before.phase != after.phase:
                axis.axvline(after.at_s, color="gray", linewidth=0.5, linestyle="--")
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path)


def main():
    # It says that it has written to a peer that is gone; so it shall.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description="Minutes of churn, and what they leave behind.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=60, help="at the same time")
    parser.add_argument("--tls", action="store_true", help="everybody speaks TLS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, default=PLOT)
    return 0 if uvloop.run(soak(parser.parse_args())) else 1


if __name__ == "__main__":
    raise SystemExit(main())
