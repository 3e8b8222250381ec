"""
A running server under load: rakit_ws beside other servers, one core for each and one for the load.

    python benches/load.py [--quick] [--peers picows,websockets] [--only TEXT] [--json FILE]

What decides is the server's CPU time for a message, from /proc, in the seconds that the generator
(`benches/load/`, built when needed) measures: it hardly depends on what else the machine does. The
rate is shown beside it; where the generator was the limit it is marked with a star, and is a lower
bound. Rounds are interleaved, each with fresh processes; a ratio is taken within each round.
Figures are the median of the rounds with their least and greatest. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import machine
from decode import Spread
from effort import FULL, Effort, add_arguments
from scenarios import SCENARIOS, Scenario
from servers import PEERS, RAKIT_WS, ROOT, RunError, Server, on_core, peers_named, running

BUILD = ["cargo", "build", "--release", "--no-default-features", "--example", "load"]
SPARE_DESCRIPTORS = 100
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
USUAL_PEERS = ("picows", "websockets")
# A process that used so much of its core had no time left.
BUSY = 0.95


QUICK = Effort(rounds=1, warmup_s=0.4, seconds=1.2)


def generator() -> Path:
    """Build the generator if it is not up to date; return where it is."""
    console.print("building the load generator where it is missing or old …", style="dim")
    built = subprocess.run(
        [*BUILD, "--message-format", "json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=False,
    )
    if built.returncode:
        raise SystemExit(f"`{' '.join(BUILD)}` failed")
    messages = map(json.loads, built.stdout.splitlines())
    return next(Path(path) for message in messages if (path := message.get("executable")))


# Measuring ----------------------------------------------------------------------------------------


# What server and generator had used when a phase began, as the generator says it.
Phases = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class Round:
    """One run of one server; times in µs, `cpu_us` and the rate for one of the scenario's units."""

    per_s: float
    cpu_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    late_p99_us: float
    kb_per_connection: float
    server_busy: float
    generator_busy: float

    @property
    def starved(self) -> bool:
        """Whether the generator could not have done more while the server could."""
        return self.generator_busy > BUSY > self.server_busy


Show = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """The generator, and how long to measure."""

    generator: Path
    effort: Effort

    def run(self, scenario: Scenario, server: Server, show: Show) -> Round:
        """Put a scenario's load on a fresh server."""
        with running(server, scenario.application) as (pid, port):
            time.sleep(0.2)  # What was started must come to rest: its memory is looked at.
            return figures(scenario, *self.load(scenario, server, pid, port, show))

    def load(
        self, scenario: Scenario, server: Server, pid: int, port: int, show: Show
    ) -> tuple[dict[str, Any], Phases]:
        """Return the generator's report, and what was used when each phase began."""
        command = [*self.command(scenario, server, port), "--watch", str(pid)]
        pipe = subprocess.PIPE
        with on_core(1):
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        phases: Phases = {}
        line = ""
        with process, ended_with(process):
            for line in process.stderr or ():
                phase, _, usage = line.strip().partition(" ")
                if usage.startswith("{"):
                    show(phase)
                    phases[phase] = json.loads(usage)
            report = process.stdout.read() if process.stdout else ""
        if process.returncode:
            raise RunError(line.strip() or f"the generator exited with {process.returncode}")
        return json.loads(report), phases

    def command(self, scenario: Scenario, server: Server, port: int) -> list[str]:
        """Return the generator's command."""
        path = server.echo_path if scenario.application == "echo" else "/"
        return [
            *(str(self.generator), *scenario.arguments.split()),
            *("--port", str(port), "--path", path, "--json"),
            *("--warmup", str(self.effort.warmup_s), "--seconds", str(self.effort.seconds)),
        ]


@contextlib.contextmanager
def ended_with(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process at once where what goes on meanwhile is broken off."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


def figures(scenario: Scenario, report: dict[str, Any], phases: Phases) -> Round:
    """Sum up a run over the phases that count in its scenario."""
    connections, latency = report["connections"], report["latency_us"]
    first, last, seconds, count = "measuring", "measured", report["seconds"], report["count"]
    if scenario.unit == "handshake":
        first, last, seconds, count = "opening", "opened", report["opening_s"], connections

    def used(process: str, what: str, first: str = first, last: str = last) -> int:
        return phases[last][process][what] - phases[first][process][what]

    cpu_s = used("server", "cpu_ticks") / TICKS_PER_S
    settled = "rested" if "rested" in phases else "measured"
    if not count:
        raise RunError(f"no {scenario.unit} in {seconds:.1f} s")
    return Round(
        per_s=count / seconds,
        cpu_us=cpu_s / count * 1e6,
        p50_us=latency["p50"],
        p99_us=latency["p99"],
        p999_us=latency["p99.9"],
        max_us=latency["max"],
        late_p99_us=report["late_p99_us"],
        kb_per_connection=used("server", "resident_kb", "opening", settled) / connections,
        server_busy=cpu_s / seconds,
        generator_busy=used("generator", "cpu_ticks") / TICKS_PER_S / seconds,
    )


@dataclass
class Result:
    """All rounds of one server in one scenario; up to its fault, if it has one."""

    scenario: Scenario
    server: str
    rounds: list[Round] = field(default_factory=list)
    fault: str = ""

    def spread(self, figure: str) -> Spread:
        """Sum up a figure over the rounds."""
        return Spread.of([getattr(each, figure) for each in self.rounds])

    def cpu_relative_to(self, other: Result) -> Spread:
        """How many times the CPU time of another this server took, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return Spread.of([own.cpu_us / max(its.cpu_us, 1e-9) for own, its in pairs])

    def as_json(self, results: Sequence[Result]) -> dict[str, object]:
        """All figures, with the ratios to the others of its scenario."""
        others = [each for each in results if each.scenario == self.scenario and each != self]
        return {
            "scenario": asdict(self.scenario),
            "server": self.server,
            "fault": self.fault,
            "rounds": [asdict(each) for each in self.rounds],
            "median": {
                each.name: self.spread(each.name).median for each in fields(Round) if self.rounds
            },
            "cpu_relative_to": {each.server: asdict(self.cpu_relative_to(each)) for each in others},
        }

    @classmethod
    def from_json(cls, figures: dict[str, Any]) -> Result:
        """Return what `as_json` was called on."""
        rounds = [Round(**each) for each in figures["rounds"]]
        return cls(Scenario(**figures["scenario"]), figures["server"], rounds, figures["fault"])


def measure(
    bench: Bench, scenario: Scenario, servers: Sequence[Server], show: Show
) -> list[Result]:
    """Measure servers in interleaved rounds; one that fails is not tried again."""
    results = {server: Result(scenario, server.name) for server in servers}
    turn = list(servers)
    for number in range(bench.effort.rounds):
        for server in turn:
            result = results[server]
            label = f"{scenario.name}: {server.name}, round {number + 1}: "
            try:
                if not result.fault:
                    result.rounds.append(bench.run(scenario, server, show_after(label, show)))
            except RunError as error:
                result.fault = str(error)
            show("")
        turn.append(turn.pop(0))  # Nobody is always the first.
    return list(results.values())


def show_after(label: str, show: Show) -> Show:
    return lambda phase: show(label + phase)


# Showing ------------------------------------------------------------------------------------------

# A width of its own where the output goes to a file.
console = Console(width=None if sys.stdout.isatty() else 120)


def print_table(scenario: Scenario, results: Sequence[Result]) -> None:
    """Print a scenario's figures, a line for each server; ratios are of CPU time."""
    whole = [result for result in results if not result.fault]
    held = scenario.unit == "handshake"
    table = Table(title=scenario.name, title_justify="left", box=None, header_style="dim")
    table.add_column("server", min_width=12)
    latency = ["kB/connection"] if held else ["p50 µs", "p99 µs"]
    plural = "deliveries" if scenario.unit == "delivery" else f"{scenario.unit}s"
    ratios = [f"x {result.server}" for result in compared(whole)]
    for heading in [f"{plural}/s", f"CPU µs/{scenario.unit}", *latency, *ratios]:
        table.add_column(heading, justify="right", min_width=9, no_wrap=True)
    for result in whole:
        table.add_row(result.server, *cells(result, whole, held=held))
    console.print(table)
    for result in results:
        if result.fault:
            console.print(f"FAILED: {result.server}: {result.fault}", style="red", markup=False)


def compared(whole: Sequence[Result]) -> Sequence[Result]:
    """Return to whom ratios are shown: as many as a line has room for."""
    return whole[1:4]


def cells(result: Result, whole: Sequence[Result], *, held: bool) -> Iterator[str]:
    yield rate(result)
    yield with_extremes(result.spread("cpu_us"))
    if held:
        yield f"{result.spread('kb_per_connection').median:.1f}"
    else:
        yield f"{result.spread('p50_us').median:,.0f}"
        yield f"{result.spread('p99_us').median:,.0f}"
    for other in compared(whole):
        yield f"{result.cpu_relative_to(other).median:.2f}"


def rate(result: Result) -> str:
    """Show how many a second, with a star where the generator was the limit."""
    star = "*" if any(each.starved for each in result.rounds) else ""
    return f"{star}{result.spread('per_s').median:,.0f}"


def with_extremes(spread: Spread) -> str:
    if spread.min == spread.max:
        return f"{spread.median:.2f}"
    return f"{spread.median:.2f} ({spread.min:.2f} .. {spread.max:.2f})"


def report(effort: Effort, results: Sequence[Result], missing: dict[str, str]) -> dict[str, object]:
    """All figures with what is needed to read them later."""
    return {
        "command": shlex.join(["python", "benches/load.py", *sys.argv[1:]]),
        "machine": machine.described(),
        "versions": {
            server.name: server.versions
            for server in (RAKIT_WS, *PEERS.values())
            if not server.lacks
        },
        "effort": asdict(effort),
        "not_measured": missing,
        "results": [result.as_json(results) for result in results if not result.fault],
        "failed": {
            f"{each.scenario.name}: {each.server}": each.fault for each in results if each.fault
        },
    }


# The run ------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure running servers under load.")
    parser.add_argument("--quick", action="store_true", help="half a minute, rougher figures")
    parser.add_argument(
        "--peers",
        type=peers_named,
        metavar="NAMES",
        help=f"of {','.join(PEERS)}; default {','.join(USUAL_PEERS)}, with --quick the first",
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="scenarios with TEXT in the name"
    )
    add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    return parser.parse_args()


def chosen(arguments: argparse.Namespace, missing: dict[str, str]) -> list[Scenario]:
    """Return the scenarios to run; note those that this machine cannot."""
    descriptors = machine.raise_descriptor_limit()
    scenarios = []
    for scenario in SCENARIOS:
        if arguments.only not in scenario.name or (arguments.quick and not scenario.quick):
            continue
        if scenario.connections + SPARE_DESCRIPTORS > descriptors:
            missing[scenario.name] = f"only {descriptors} descriptors"
            continue
        scenarios.append(scenario)
    return scenarios


def installed(servers: Sequence[Server], missing: dict[str, str]) -> list[Server]:
    """Return the servers that are installed; note the others, and say so. rakit_ws must be."""
    for server in servers:
        if lacks := server.lacks:
            missing[server.name] = lacks
            console.print(f"NOT MEASURED: {server.name}: {lacks}", style="red", markup=False)
    if RAKIT_WS.name in missing:
        raise SystemExit(f"rakit_ws itself: {missing[RAKIT_WS.name]}")
    return [server for server in servers if server.name not in missing]


def main() -> int:
    machine.require_linux()
    # Told to stop, stop what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse_arguments()
    effort = (QUICK if arguments.quick else FULL).but(arguments)
    missing: dict[str, str] = {}
    peers = arguments.peers
    if peers is None:
        peers = [PEERS[name] for name in USUAL_PEERS[: 1 if arguments.quick else None]]
    scenarios = chosen(arguments, missing)
    for name, reason in missing.items():
        console.print(f"NOT MEASURED: {name}: {reason}", style="red", markup=False)
    servers = installed([RAKIT_WS, *peers], missing)
    results = run_all(Bench(generator(), effort), scenarios, servers)
    if arguments.json:
        figures = report(effort, results, missing)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 1 if any(result.fault for result in results) else 0


def run_all(bench: Bench, scenarios: Sequence[Scenario], servers: Sequence[Server]) -> list[Result]:
    """Measure and print one scenario after the other, below them a bar."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    results: list[Result] = []
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=len(scenarios) * len(servers) * bench.effort.rounds)

        def show(what: str) -> None:
            progress.update(task, description=what, advance=0 if what else 1)

        for scenario in scenarios:
            measured = measure(bench, scenario, servers, show)
            print_table(scenario, measured)
            results += measured
    return results


if __name__ == "__main__":
    sys.exit(main())
