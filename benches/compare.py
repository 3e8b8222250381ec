"""
The proof: rakit_ws beside the best, the same work in one run, one core for each side.

    python benches/compare.py [--quick] [--peers bun,picows] [--parts table,curves,latency]

How is the way of `load.py`: rounds are interleaved, each with fresh processes, and a ratio is taken
within each round; what decides is the server's CPU time for a message. Beside the table of
`targets.py` it measures how costs grow, and the latency below capacity. Writes `results.json`,
`results.md` and plots (SVG) into a directory; `--readme` puts the tables into `README.md` too.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import decode
import plots
import tables
from load import (
    SPARE_DESCRIPTORS,
    Bench,
    Effort,
    Result,
    console,
    generator,
    installed,
    measure,
    raise_descriptor_limit,
)
from servers import PEERS, RAKIT_WS, ROOT, Server
from targets import (
    CURVE_PEERS,
    CURVES,
    DECODER_ROWS,
    LATENCY,
    LATENCY_PEERS,
    LOADS,
    QUICK_LOADS,
    ROWS,
    Curve,
    Row,
)

FULL = Effort(rounds=3, warmup_s=1.0, seconds=3.0)
QUICK = Effort(rounds=1, warmup_s=0.3, seconds=0.7)
PARTS = ("decoder", "table", "curves", "latency")
RESULTS = ROOT / "benches" / "results" / "compare"


@dataclass
class Comparison:
    """All that was measured, and what is needed to read it later."""

    command: str
    began: str
    commit: str
    machine: dict[str, object]
    versions: dict[str, dict[str, str]]
    effort: Effort
    not_measured: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    decoder: dict[str, list[decode.Result]] = field(default_factory=dict)
    # The results of each row, of each point of a curve, of each load; rakit_ws first.
    rows: dict[str, list[Result]] = field(default_factory=dict)
    curves: dict[str, dict[int, list[Result]]] = field(default_factory=dict)
    latency: dict[str, dict[float, Result]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """All figures; every round of each."""
        curves = {
            key: {str(size): whole(results) for size, results in points.items()}
            for key, points in self.curves.items()
        }
        latency = {
            name: {str(load): result.as_json([]) for load, result in loads.items()}
            for name, loads in self.latency.items()
        }
        return {
            **{key: value for key, value in vars(self).items() if key not in MEASURED},
            "effort": asdict(self.effort),
            "decoder": {
                case: [asdict(each) for each in results] for case, results in self.decoder.items()
            },
            "rows": {name: whole(results) for name, results in self.rows.items()},
            "curves": curves,
            "latency": latency,
        }


MEASURED = ("effort", "decoder", "rows", "curves", "latency")


def whole(results: Sequence[Result]) -> list[dict[str, object]]:
    """Return those that did not fail; the ratio to another that failed does not exist either."""
    sound = [result for result in results if not result.fault]
    return [result.as_json(sound) for result in sound]


# What is to be done -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What to measure, of whom."""

    servers: Sequence[Server]
    rows: Sequence[Row]
    curves: Sequence[Curve]
    loads: Sequence[float]
    decodes: bool

    def serving(self, row: Row) -> list[Server]:
        """Return who can do a row's work."""
        return [server for server in self.servers if server.serves(row.scenario.application)]

    def among(self, names: Sequence[str]) -> list[Server]:
        """Return rakit_ws, and those of its peers with these names."""
        return [each for each in self.servers if each is RAKIT_WS or each.name in names]

    def steps(self, rounds: int) -> int:
        """How many rounds there are in all."""
        rows = sum(len(self.serving(row)) for row in self.rows)
        points = sum(len(curve.points) for curve in self.curves) * len(self.among(CURVE_PEERS))
        latency = (len(self.loads) + 1 if self.loads else 0) * len(self.among(LATENCY_PEERS))
        return (rows + points + latency) * rounds


def planned(arguments: argparse.Namespace, missing: dict[str, str]) -> Plan:
    peers = [PEERS[name] for name in arguments.peers]
    quick, text, parts = arguments.quick, arguments.scenarios, arguments.parts
    descriptors = raise_descriptor_limit()
    rows = [
        row
        for row in ROWS
        if "table" in parts and text in row.scenario.name and (row.quick or text or not quick)
    ]
    for row in list(rows):
        if row.scenario.connections + SPARE_DESCRIPTORS > descriptors:
            missing[row.scenario.name] = f"only {descriptors} descriptors"
            rows.remove(row)
        elif not RAKIT_WS.serves(row.scenario.application):
            missing[row.scenario.name] = "rakit_ws does not compress"
            rows.remove(row)
    curves = [
        cut_to(curve, descriptors, missing)
        for curve in CURVES
        if "curves" in parts and text in curve.name and (curve.quick or text or not quick)
    ]
    loads = QUICK_LOADS if quick else LOADS
    return Plan(
        installed([RAKIT_WS, *peers], missing),
        rows,
        [without_middle(curve) for curve in curves] if quick else curves,
        loads if "latency" in parts and text in "latency" else (),
        decodes="decoder" in parts and text in "decoder",
    )


def cut_to(curve: Curve, descriptors: int, missing: dict[str, str]) -> Curve:
    """Leave out the points that this machine has no descriptors for."""
    fit = tuple(
        point for point in curve.points if point[1].connections + SPARE_DESCRIPTORS <= descriptors
    )
    if len(fit) < len(curve.points):
        missing[curve.name] = f"only {descriptors} descriptors: cut short"
    return replace(curve, points=fit)


def without_middle(curve: Curve) -> Curve:
    return replace(curve, points=(curve.points[0], curve.points[-1]))


# The run ------------------------------------------------------------------------------------------


Show = Callable[[str], None]


def run(bench: Bench, plan: Plan, comparison: Comparison, show: Show) -> None:
    """Measure all of it; what failed is said at once, and does not stop the rest."""
    for row in plan.rows:
        results = measure(bench, row.scenario, plan.serving(row), show)
        comparison.rows[row.scenario.name] = results
        tell(comparison, row, results)
    for curve in plan.curves:
        points = comparison.curves.setdefault(curve.key, {})
        for size, scenario in curve.points:
            points[size] = measure(bench, scenario, plan.among(CURVE_PEERS), show)
            say_faults(comparison, points[size])
        console.print(tables.curve(curve, points))
    if plan.loads:
        measure_latency(bench, plan, comparison, show)


def tell(comparison: Comparison, row: Row, results: Sequence[Result]) -> None:
    say_faults(comparison, results)
    console.print(tables.row(row, results))


def say_faults(comparison: Comparison, results: Sequence[Result]) -> None:
    for result in results:
        if result.fault:
            comparison.failed[f"{result.scenario.name}: {result.server}"] = result.fault
            text = f"FAILED: {result.scenario.name}: {result.server}: {result.fault}"
            console.print(text, style="red", markup=False)


def measure_latency(bench: Bench, plan: Plan, comparison: Comparison, show: Show) -> None:
    """Find each server's capacity, then send at parts of it, whatever comes back."""
    servers = plan.among(LATENCY_PEERS)
    capacity = measure(bench, LATENCY, servers, show)
    say_faults(comparison, capacity)
    for server, most in zip(servers, capacity, strict=True):
        if most.fault:
            continue
        loads = comparison.latency.setdefault(server.name, {})
        for load in plan.loads:
            scenario = LATENCY.at_rate(load * most.spread("per_s").median)
            [result] = measure(bench, scenario, [server], show)
            say_faults(comparison, [result])
            if not result.fault:
                loads[load] = result
    console.print(tables.latency(comparison.latency))


def measure_decoders(comparison: Comparison, *, quick: bool) -> None:
    effort = decode.QUICK if quick else decode.FULL
    decode.note_missing()
    for row in DECODER_ROWS:
        results = decode.measure(row.case, effort, "")
        comparison.decoder[str(row.case)] = results
        decode.print_table(row.case, results)


# The whole ----------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare rakit_ws with other servers.")
    parser.add_argument("--quick", action="store_true", help="minutes instead of an hour; rough")
    parser.add_argument(
        "--peers",
        type=some_of(PEERS),
        default=list(PEERS),
        metavar="NAMES",
        help=f"of {','.join(PEERS)}; default all",
    )
    parser.add_argument("--parts", type=some_of(PARTS), default=list(PARTS), metavar="NAMES")
    parser.add_argument(
        "--scenarios", default="", metavar="TEXT", help="only what has TEXT in its name"
    )
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S", help="measured seconds of a round")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument(
        "--readme", action="store_true", help="put the tables into benches/README.md"
    )
    return parser.parse_args()


def some_of(known: Sequence[str] | dict[str, Server]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        given = [name for name in text.split(",") if name]
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return given

    return names


def machine() -> dict[str, object]:
    memory = next(
        line for line in Path("/proc/meminfo").read_text("utf-8").splitlines() if "MemTotal" in line
    )
    return {
        "cpu": decode.cpu_model(),
        "cores": os.cpu_count(),
        "memory": memory.partition(":")[2].strip(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def commit() -> str:
    """Name what is measured, with a + where it is not all committed."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def main() -> int:
    if sys.platform != "linux":
        raise SystemExit("this bench reads /proc, and its generator needs epoll: Linux only")
    # Told to stop, stop what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse_arguments()
    usual = QUICK if arguments.quick else FULL
    effort = replace(
        usual,
        rounds=arguments.rounds or usual.rounds,
        seconds=arguments.seconds or usual.seconds,
    )
    missing: dict[str, str] = {}
    plan = planned(arguments, missing)
    for name, reason in missing.items():
        console.print(f"NOT MEASURED: {name}: {reason}")
    comparison = Comparison(
        command=" ".join(["python", "benches/compare.py", *sys.argv[1:]]),
        began=time.strftime("%Y-%m-%d %H:%M"),
        commit=commit(),
        machine=machine(),
        versions={server.name: server.versions for server in plan.servers},
        effort=effort,
        not_measured=missing,
    )
    run_all(Bench(generator(), effort), plan, comparison, quick=arguments.quick)
    write(comparison, arguments.output, readme=arguments.readme)
    return 1 if comparison.failed else 0


def run_all(bench: Bench, plan: Plan, comparison: Comparison, *, quick: bool) -> None:
    if plan.decodes:
        measure_decoders(comparison, quick=quick)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("", total=plan.steps(bench.effort.rounds))

        def show(what: str) -> None:
            progress.update(task, description=what, advance=0 if what else 1)

        run(bench, plan, comparison, show)


def write(comparison: Comparison, directory: Path, *, readme: bool) -> None:
    """Write figures, tables and plots; none of those that were not measured."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(comparison.as_json(), indent=1)
    (directory / "results.json").write_text(figures + "\n", "utf-8")
    drawn = plots.draw(comparison, directory)
    text = tables.markdown(comparison, drawn)
    (directory / "results.md").write_text(text, "utf-8")
    if readme:
        tables.put_into_readme(text, directory)
    console.print(f"written to {directory}: results.json, results.md, {', '.join(drawn)}")


if __name__ == "__main__":
    sys.exit(main())
