"""
The proof: rakit_ws beside the best, the same work in one run, one core for each side.

    python benches/compare.py [--quick] [--peers bun,picows] [--parts table,curves,latency]

How is the way of `load.py`: rounds are interleaved, each with fresh processes, and a ratio is taken
within each round; what decides is the server's CPU time for a message. Beside the table of
`targets.py` it measures how costs grow, and the latency below capacity. Writes `results.json`,
`results.md` and plots (SVG) into a directory; `--readme` puts tables and plots into `README.md` too.
`results.json` is written after each scenario: a run that is stopped shows what it has measured, and
`--resume` goes on with it. Linux only.

Ends with 0 where all was measured, be it as good as asked or not (`What we lose` says so); 1 where
something failed meanwhile; 2 for wrong arguments, a peer that is named but not installed among them;
130 and 143 where it was stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import decode
import machine
import plots
import tables
from comparison import Comparison
from effort import FULL, Effort, add_arguments
from load import Bench, Result, console, generator, measure
from plan import PARTS, Plan, planned
from servers import PEERS, ROOT, peers_named
from targets import CURVE_PEERS, DECODER_ROWS, LATENCY, LATENCY_PEERS

QUICK = Effort(rounds=1, warmup_s=0.3, seconds=0.7)
RESULTS = ROOT / "benches" / "results" / "compare"
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


# The run ------------------------------------------------------------------------------------------


Show = Callable[[str], None]
Keep = Callable[[], None]


def run(bench: Bench, plan: Plan, comparison: Comparison, show: Show, keep: Keep) -> None:
    """Measure all of it; what failed is said at once, and does not stop the rest."""
    for row in plan.rows:
        results = measure(bench, row.scenario, plan.serving(row), show)
        comparison.rows[row.scenario.name] = results
        note_faults(comparison, results)
        keep()
        console.print(tables.row(comparison, row, results))
    for curve in plan.curves:
        for size, scenario in curve.points:
            results = measure(bench, scenario, plan.among(CURVE_PEERS), show)
            points = {**comparison.curves.get(curve.key, {}), size: results}
            comparison.curves[curve.key] = dict(sorted(points.items()))
            note_faults(comparison, results)
            keep()
        console.print(tables.curve(curve, comparison.curves[curve.key]))
    if plan.loads:
        measure_latency(bench, plan, comparison, show, keep)


def note_faults(comparison: Comparison, results: Sequence[Result]) -> None:
    """Say who failed."""
    for result in results:
        if result.fault:
            name = f"{result.scenario.name}: {result.server}"
            comparison.failed[name] = result.fault
            console.print(f"FAILED: {name}: {result.fault}", style="red", markup=False)


def measure_latency(
    bench: Bench, plan: Plan, comparison: Comparison, show: Show, keep: Keep
) -> None:
    """Find each server's capacity, then send at parts of it, whatever comes back."""
    servers = plan.among(LATENCY_PEERS)
    capacity = measure(bench, LATENCY, servers, show)
    note_faults(comparison, capacity)
    for server, most in zip(servers, capacity, strict=True):
        if most.fault:
            continue
        for load in plan.loads:
            scenario = LATENCY.at_rate(load * most.spread("per_s").median)
            [result] = measure(bench, scenario, [server], show)
            note_faults(comparison, [result])
            if not result.fault:
                comparison.latency.setdefault(server.name, {})[load] = result
            keep()
    console.print(tables.latency(comparison.latency))


def measure_decoders(comparison: Comparison, keep: Keep, *, quick: bool) -> None:
    effort = decode.QUICK if quick else decode.FULL
    decode.note_missing()
    for name, reason in decode.missing.items():
        comparison.not_measured[f"decoder of {name}"] = reason
    for row in DECODER_ROWS:
        results = decode.measure(row.case, effort, "")
        comparison.decoder[str(row.case)] = results
        keep()
        decode.print_table(row.case, results)


def run_all(bench: Bench, plan: Plan, comparison: Comparison, keep: Keep, *, quick: bool) -> None:
    """Measure the decoders, then the servers, below them a bar."""
    if plan.decodes:
        measure_decoders(comparison, keep, quick=quick)
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

        run(bench, plan, comparison, show, keep)
    comparison.finished = True


# The whole ----------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare rakit_ws with other servers.")
    parser.add_argument("--quick", action="store_true", help="minutes instead of an hour; rough")
    parser.add_argument(
        "--peers",
        type=peers_named,
        metavar="NAMES",
        help=f"of {','.join(PEERS)}, all of them installed; default those that are",
    )
    parser.add_argument("--parts", type=parts_named, default=list(PARTS), metavar="NAMES")
    parser.add_argument(
        "--scenarios", default="", metavar="TEXT", help="only what has TEXT in its name"
    )
    add_arguments(parser)
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument(
        "--readme", action="store_true", help="put tables and plots into benches/README.md"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output that was stopped"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, show the run in --output anew"
    )
    return parser.parse_args()


def parts_named(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PARTS)}")
    return names


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
    machine.require_linux()
    arguments = parse_arguments()
    if arguments.render:
        publish(kept(arguments.output), arguments.output, readme=arguments.readme)
        return 0
    effort = (QUICK if arguments.quick else FULL).but(arguments)
    missing: dict[str, str] = {}
    plan = planned(arguments, missing)
    comparison = Comparison(
        command=shlex.join(["python", "benches/compare.py", *sys.argv[1:]]),
        began=time.strftime("%Y-%m-%d %H:%M"),
        commit=commit(),
        machine={
            **machine.described(),
            "memory": machine.memory(),
            "load_average": os.getloadavg()[0],
        },
        versions={server.name: server.versions for server in plan.servers},
        effort=effort,
        not_measured=missing,
    )
    if arguments.resume:
        comparison = resumed(comparison, arguments.output)
        plan = plan.without(comparison)
    return compare(Bench(generator(), effort), plan, comparison, arguments)


def resumed(comparison: Comparison, directory: Path) -> Comparison:
    """Return the run in a directory, to go on with."""
    earlier = kept(directory)
    if not earlier.is_of_the_same(comparison):
        raise SystemExit(
            f"the run in {directory} has another commit, other versions, peers, rounds or seconds"
        )
    return replace(earlier, finished=False, not_measured=comparison.not_measured, failed={})


def kept(directory: Path) -> Comparison:
    try:
        return Comparison.kept(directory)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SystemExit(f"no run to be read in {directory}: {error!r}") from None


def compare(bench: Bench, plan: Plan, comparison: Comparison, arguments: argparse.Namespace) -> int:
    """Measure what is planned, and show what was measured, be it all or not; return the exit code."""
    directory = arguments.output
    # Told to stop, stop what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        run_all(bench, plan, comparison, lambda: comparison.keep(directory), quick=arguments.quick)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        publish(comparison, directory, readme=arguments.readme)
    return 1 if comparison.failed else 0


def publish(comparison: Comparison, directory: Path, *, readme: bool) -> None:
    """Write figures, tables and plots; `README.md` keeps those of the last run that was whole."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(comparison, directory)
    comparison.keep(directory)
    (directory / "results.md").write_text(tables.markdown(comparison, drawn), "utf-8")
    if readme and comparison.finished:
        tables.put_into_readme(comparison, drawn, directory, tables.README)
    elif readme:
        console.print("NOT in README.md: the run was stopped before its end", style="red")
    console.print(f"written to {directory}: {', '.join(['results.json', 'results.md', *drawn])}")


if __name__ == "__main__":
    sys.exit(main())
