"""What `compare.py` has measured, as tables for a terminal and for a page."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rich.table import Table

import verdicts
from effort import FULL
from load import rate, with_extremes
from servers import RAKIT_WS, ROOT
from targets import CURVES, IDLE, IDLE_KB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from comparison import Comparison
    from load import Result
    from targets import Curve, Row
    from verdicts import Verdict

README = ROOT / "benches" / "README.md"
# Where README shows plots from: what a run writes is not committed.
SHOWN = "figures"
BEGIN = "<!-- results of compare.py: begin -->"
END = "<!-- results of compare.py: end -->"
NOT_HERE = "Not in this run."

Latency = dict[str, dict[float, "Result"]]


# For a terminal -----------------------------------------------------------------------------------


def row(comparison: Comparison, row: Row, results: Sequence[Result]) -> Table:
    """Show one scenario, a line for each server that did not fail; then what is asked of it."""
    own = next(result for result in results if result.server == RAKIT_WS.name)
    plural = "deliveries" if row.scenario.unit == "delivery" else f"{row.scenario.unit}s"
    headings = [f"{plural}/s", f"CPU µs/{row.scenario.unit}", "p50 µs", "p99 µs", "kB/connection"]
    table = titled(row.scenario.name, ["server", *headings, "rakit_ws : it"])
    for result in results:
        if result.fault:
            continue
        is_peer = result is not own and not own.fault
        table.add_row(
            result.server,
            rate(result),
            with_extremes(result.spread("cpu_us")),
            f"{result.spread('p50_us').median:,.0f}",
            f"{result.spread('p99_us').median:,.0f}",
            f"{result.spread('kb_per_connection').median:.2f}",
            with_extremes(own.cpu_relative_to(result)) if is_peer else "",
        )
    lines = [f"{mark(each)}: {each}" for each in verdicts.of_row(comparison, row)]
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def mark(verdict: Verdict) -> str:
    return {True: "met", False: "MISSED", None: "NOT MEASURED"}[verdict.met]


def curve(curve: Curve, points: Mapping[int, list[Result]]) -> Table:
    """Show one kind of growth, a line for each server."""
    title = f"CPU µs: {curve.title}; asked ≤ {curve.at_most:.2f}"
    table = titled(title, curve_headings(points))
    for cells in curve_cells(points):
        table.add_row(*cells)
    return table


def curve_headings(points: Mapping[int, list[Result]]) -> list[str]:
    return ["server", *(f"{size:,}" for size in points), "last : first"]


def curve_cells(points: Mapping[int, list[Result]]) -> Iterator[list[str]]:
    servers = dict.fromkeys(each.server for results in points.values() for each in results)
    for server in servers:
        costs = [
            cost(next((each for each in results if each.server == server), None))
            for results in points.values()
        ]
        grown = verdicts.growth(points, server)
        yield [server, *costs, "-" if grown is None else f"{grown:.2f}"]


def cost(result: Result | None) -> str:
    return shown(result, lambda sound: f"{sound.spread('cpu_us').median:.2f}")


def shown(result: Result | None, show: Callable[[Result], str]) -> str:
    """Show a figure of one that did not fail."""
    if result is None:
        return "-"
    return "failed" if result.fault else show(result)


def latency(measured: Latency) -> Table:
    """Show the percentiles, a line for each server and load."""
    table = titled("Latency below capacity (open loop)", LATENCY_HEADINGS)
    for cells in latency_cells(measured):
        table.add_row(*cells)
    return table


LATENCY_HEADINGS = ["server", "load", "messages/s", "p50 µs", "p99 µs", "p99.9 µs", "late p99 µs"]


def latency_cells(measured: Latency) -> Iterator[list[str]]:
    for server, loads in measured.items():
        for load, result in loads.items():
            figures = ("per_s", "p50_us", "p99_us", "p999_us", "late_p99_us")
            cells = (f"{result.spread(figure).median:,.0f}" for figure in figures)
            yield [server, f"{load:.0%}", *cells]


def titled(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column(headings[0], min_width=12)
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


# For a page ---------------------------------------------------------------------------------------


def markdown(comparison: Comparison, plots: Sequence[str], folder: str = "") -> str:
    """Return all tables, with what is needed to repeat them; the plots are in `folder`."""
    pictures = {name: f"![{name.removesuffix('.svg')}]({folder}{name})" for name in plots}
    return "\n\n".join(filter(None, sections(comparison, pictures))) + "\n"


def sections(comparison: Comparison, pictures: Mapping[str, str]) -> Iterator[str]:
    """Yield the sections of a page; one of which this run has nothing says so."""

    def picture(name: str) -> str:
        return pictures.get(f"{name}.svg", "")

    yield heading(comparison)
    yield f"#### What is asked, and what was measured ({comparison.effort})"
    yield asked(comparison)
    yield "#### The full table: server CPU, µs for a message, a delivery, a handshake"
    yield by_server(comparison, lambda each: f"{each.spread('cpu_us').median:.2f}")
    yield picture("cpu")
    yield "#### Rate, a second (* the generator was the limit: a lower bound)"
    yield by_server(comparison, rate)
    yield picture("rate")
    yield "#### Curves: what costs grow with"
    yield "\n\n".join(curve_tables(comparison)) or NOT_HERE
    yield picture("growth")
    yield "#### Latency below capacity, an open loop"
    yield table(LATENCY_HEADINGS, latency_cells(comparison.latency))
    yield picture("latency")
    yield "#### Decoder: decoding and unmasking alone, how many times as fast"
    yield decoders(comparison)
    yield "#### Memory: resident, kB for an idle connection"
    yield memory(comparison)
    yield "#### What we lose"
    yield items(verdicts.losses(comparison)) or "Nothing in this run."
    yield "#### Not measured, and failed"
    absent = {**comparison.not_measured, **comparison.failed}.items()
    yield items(f"{name}: {verdicts.first_line(reason)}" for name, reason in absent) or "None."


def items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def heading(comparison: Comparison) -> str:
    """Say what was run, where, how long, and what came of it in a line."""
    machine, effort = comparison.machine, comparison.effort
    versions = {name: v for each in comparison.versions.values() for name, v in each.items()}
    shorter = "" if effort == FULL else f", where a full run has {FULL}"
    met = [verdict.met for verdict in verdicts.everything(comparison)]
    return (
        f"### Beside the best: `{comparison.command}`\n\n"
        f"{comparison.began}, commit {comparison.commit}, {machine['cores']} cores of {machine['cpu']},"
        f" {machine['system']}, Python {machine['python']}, load average before:"
        f" {machine['load_average']:.1f}. {effort}{shorter}."
        f" {', '.join(f'{name} {versions[name]}' for name in sorted(versions))}."
        " Medians with the extremes of the rounds; a ratio is taken within each round.\n\n"
        f"{'' if comparison.finished else '**Stopped before its end.** '}"
        f"Of {len(met)} things that are asked {met.count(True)} are met, {met.count(False)} missed,"
        f" {met.count(None)} not measured."
    )


def asked(comparison: Comparison) -> str:
    """Return a line for each thing that is asked: what is missed stands out."""
    marks = {True: "✓ met", False: "✗ **missed**", None: "not measured"}
    return table(
        ["scenario", "rakit_ws beside", "asked", "measured", ""],
        (
            [each.name, each.beside or "itself", each.asked, each.measured, marks[each.met]]
            for each in verdicts.everything(comparison)
        ),
    )


def by_server(
    comparison: Comparison, show: Callable[[Result], str], only: str = "", further: str = ""
) -> str:
    """Return a line for each scenario, a column for each server; then a line of one's own."""
    names = list(comparison.versions)
    rows = []
    for scenario, results in comparison.rows.items():
        if scenario.startswith(only):
            found = {result.server: result for result in results}
            rows.append([scenario, *(shown(found.get(name), show) for name in names)])
    if rows and further:
        rows.append([f"asked of {RAKIT_WS.name}", further, *[""] * (len(names) - 1)])
    return table(["scenario", *names], rows)


def memory(comparison: Comparison) -> str:
    return by_server(
        comparison,
        lambda result: f"{result.spread('kb_per_connection').median:.2f}",
        only="hold",
        further=f"{IDLE_KB:.1f} at {IDLE:,}",
    )


def curve_tables(comparison: Comparison) -> Iterator[str]:
    for each in CURVES:
        if points := comparison.curves.get(each.key):
            cells = table(curve_headings(points), curve_cells(points))
            yield f"{each.title}: CPU µs; asked of the last ≤ {each.at_most:.2f} x the first\n\n{cells}"


def decoders(comparison: Comparison) -> str:
    rows = (
        [case, each.implementation, f"{each.messages_per_s.median:,.0f}", ratio]
        for case, results in comparison.decoder.items()
        for each in results
        for ratio in [with_extremes(each.times_slower)]
    )
    return table(["case", "implementation", "a second", f"{RAKIT_WS.name} : it"], rows)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in cells) for cells in rows]
    if not lines:
        return NOT_HERE
    above = [" | ".join(headings), " | ".join(["---"] * len(headings))]
    return "\n".join(f"| {line} |" for line in [*above, *lines])


def put_into_readme(
    comparison: Comparison, plots: Sequence[str], directory: Path, readme: Path
) -> None:
    """Put tables and plots, which are in `directory`, where `README.md` shows them."""
    page = readme.read_text("utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{readme} lacks {BEGIN} … {END}")
    shown = readme.parent / SHOWN
    shown.mkdir(exist_ok=True)
    for name in plots:
        shutil.copy(directory / name, shown / name)
    text = markdown(comparison, plots, f"{SHOWN}/")
    readme.write_text(f"{before}{BEGIN}\n{text}{END}{after}", "utf-8")
