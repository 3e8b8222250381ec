"""
Fan-out with several shards: how much of the work is still done in Python's thread.

    python benches/shards.py
    python benches/shards.py --shards 4 --subscribers 5000 -r 5

A publisher keeps messages in flight to all; the load is that of `load.py` (mode fanout), the CPU
time of each thread is the kernel's own (/proc/PID/task/*/schedstat), between the beginning and the
end of what the generator measures. Threads are told apart by their names: `shard-0` and so on, and
everything else is Python's. Beside it the same load with one shard, which is inline. Server and
generator share the machine's cores. Asked is that Python's thread needs at most 5 % of the
server's CPU for a delivery. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import machine
from effort import Effort
from load import Bench, generator
from scenarios import Scenario, fanout
from servers import RAKIT_WS, RunError, Server, running

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_IN_PYTHON = 0.05

# CPU time of each thread in ns, by its number and name.
Usage = dict[tuple[int, str], int]


@dataclass(frozen=True)
class Round:
    """CPU time of one run for a delivery, in µs."""

    python_us: float
    shards_us: Sequence[float]
    per_s: float

    @property
    def whole_us(self) -> float:
        """Of all threads together."""
        return self.python_us + sum(self.shards_us)

    @property
    def in_python(self) -> float:
        """The part of it that Python's thread has."""
        return self.python_us / self.whole_us


def with_shards(count: int) -> Server:
    """Return this server, with so many shards."""
    return replace(RAKIT_WS, channel=(*RAKIT_WS.channel, "--shards", str(count)))


def usage(pid: int) -> Usage:
    """Return what each thread of a process has used so far."""
    used: Usage = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text("utf-8").strip()
        used[int(task.name), name] = int((task / "schedstat").read_text("utf-8").split()[0])
    return used


def on_all_cores(pid: int) -> None:
    """Let all threads of a process, which was started on one core, run on every one."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), os.sched_getaffinity(0))


def measure(bench: Bench, scenario: Scenario, server: Server) -> Round:
    """Put the load on a fresh server."""
    seen: dict[str, Usage] = {}
    with running(server, scenario.application) as (pid, port):
        on_all_cores(pid)
        time.sleep(0.2)

        def look(phase: str) -> None:
            seen[phase] = usage(pid)

        report, _ = bench.load(scenario, server, pid, port, look)
    before, after, count = seen["measuring"], seen["measured"], report["count"]
    if not count:
        raise RunError(f"nothing was delivered in {report['seconds']:.1f} s")
    used_us = {
        (number, name): (ns - before.get((number, name), 0)) / count / 1000
        for (number, name), ns in after.items()
    }
    shards = sorted((name, us) for (_, name), us in used_us.items() if name.startswith("shard-"))
    in_python = sum(us for (_, name), us in used_us.items() if not name.startswith("shard-"))
    return Round(in_python, [us for _, us in shards], count / report["seconds"])


def row(label: str, rounds: Sequence[Round]) -> str:
    """Return a line of the table: medians, and the extremes of the part in Python."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    shards = zip(*(each.shards_us for each in rounds), strict=True)
    in_shards = " + ".join(f"{median(each):.3f}" for each in shards) or "-"
    parts = [100 * each.in_python for each in rounds]
    return (
        f"| {label} | {median([each.python_us for each in rounds]):.3f} | {in_shards} "
        f"| {median([each.whole_us for each in rounds]):.3f} "
        f"| {median(parts):.1f} % ({min(parts):.1f} .. {max(parts):.1f}) |"
    )


def main() -> int:
    """Print a table; fail where too much is done in Python's thread."""
    machine.require_linux()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-s", "--seconds", type=float, default=4.0, help="of a round, measured")
    parser.add_argument("-w", "--warmup", type=float, default=0.5, help="seconds of a round before")
    parser.add_argument("-n", "--subscribers", type=int, default=1000)
    parser.add_argument("-i", "--in-flight", type=int, default=16, help="messages under way")
    parser.add_argument("--shards", type=int, default=2)
    arguments = parser.parse_args()
    machine.raise_descriptor_limit()
    load = fanout(arguments.subscribers, arguments.in_flight)
    bench = Bench(generator(), Effort(arguments.rounds, arguments.warmup, arguments.seconds))
    several, inline = with_shards(arguments.shards), with_shards(1)
    rounds: dict[str, list[Round]] = {"inline": [], "several": []}
    try:
        for _ in range(arguments.rounds):
            rounds["several"].append(measure(bench, load, several))
            rounds["inline"].append(measure(bench, load, inline))
    except RunError as error:
        raise SystemExit(f"FAILED: {error}") from None
    print(f"{load.name}, CPU µs for a delivery, {os.cpu_count()} cores, the generator among them\n")
    print("| | Python's thread | shards | all | in Python (extremes) |")
    print("|---|---|---|---|---|")
    print(row(f"{arguments.shards} shards", rounds["several"]))
    print(row("inline", rounds["inline"]))
    part = statistics.median(each.in_python for each in rounds["several"])
    if part > MOST_IN_PYTHON:
        print(f"\nFAILED: {part:.1%} in Python's thread, at most {MOST_IN_PYTHON:.0%} were asked")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
