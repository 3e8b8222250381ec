"""What `compare.py` has measured, as tables for a terminal and for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from load import with_extremes
from servers import RAKIT_WS, ROOT
from targets import CURVES, DECODER_ROWS, IDLE_KB, ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from compare import Comparison
    from decode import Spread
    from load import Result
    from targets import Curve, DecoderRow

README = ROOT / "benches" / "README.md"
BEGIN = "<!-- results of compare.py: begin -->"
END = "<!-- results of compare.py: end -->"

Latency = dict[str, dict[float, "Result"]]


# Judgements ---------------------------------------------------------------------------------------


def ratios(results: Sequence[Result]) -> dict[str, Spread]:
    """Tell how many times each peer's CPU time rakit_ws took, round by round."""
    own, *peers = results
    if own.fault:
        return {}
    return {peer.server: own.cpu_relative_to(peer) for peer in peers if not peer.fault}


def verdicts(row: Row, results: Sequence[Result]) -> Iterator[tuple[bool, str]]:
    """Tell whether each thing that is asked of a row is met, in words."""
    measured = ratios(results)
    for peer, limit in row.at_most.items():
        if peer in measured:
            ratio = measured[peer].median
            yield ratio <= limit, f"{ratio:.2f} x {peer}, asked ≤ {limit:.2f}"
    if row.ceiling is not None and not results[0].fault:
        figure = results[0].spread(row.figure).median
        yield figure <= row.ceiling, f"{figure:.2f} kB, asked ≤ {row.ceiling:.1f} kB"


def judged(row: Row, results: Sequence[Result]) -> str:
    words = [text if met else f"**missed**: {text}" for met, text in verdicts(row, results)]
    return "; ".join(words) or "-"


def growth(points: Mapping[int, list[Result]], place: int) -> float | None:
    """Tell how many times the first point's CPU time the last one took, of the server at a place."""
    sound = [results[place] for results in points.values() if not results[place].fault]
    if len(sound) < 2:
        return None
    return sound[-1].spread("cpu_us").median / sound[0].spread("cpu_us").median


def losses(comparison: Comparison) -> Iterator[str]:
    """List what is missed, and where a peer is better though nothing was asked."""
    for row in ROWS:
        results = comparison.rows.get(row.scenario.name)
        if not results:
            continue
        name = row.scenario.name
        yield from (f"{name}: {text}" for met, text in verdicts(row, results) if not met)
        if row.figure == "cpu_us":
            worse = {peer: each.median for peer, each in ratios(results).items()}
            for peer, ratio in worse.items():
                if ratio > 1 and peer not in row.at_most:
                    yield f"{name}: {ratio:.2f} x {peer}"
    for decoder in DECODER_ROWS:
        for met, text in decoder_verdicts(comparison, decoder):
            if not met:
                yield f"{decoder.case}: {text}"
    for each in CURVES:
        grown = growth(comparison.curves.get(each.key, {}), 0)
        if grown is not None and grown > each.at_most:
            yield f"{each.name}, {each.axis}: grows {grown:.2f} times, asked ≤ {each.at_most:.2f}"


def decoder_verdicts(comparison: Comparison, row: DecoderRow) -> Iterator[tuple[bool, str]]:
    for result in comparison.decoder.get(str(row.case), ()):
        limit = row.at_least.get(result.implementation)
        if limit is not None:
            times = result.times_slower.median
            yield times >= limit, f"{times:.2f} x {result.implementation}, asked ≥ {limit:g}"


# For a terminal -----------------------------------------------------------------------------------


def row(row: Row, results: Sequence[Result]) -> Table:
    """Show one scenario, a line for each server."""
    measured = ratios(results)
    table = Table(title=row.scenario.name, title_justify="left", box=None, header_style="dim")
    table.add_column("server", min_width=12)
    for heading in (
        *(f"{row.scenario.unit}s/s", f"CPU µs/{row.scenario.unit}", "p50 µs", "p99 µs"),
        *("kB/connection", "rakit_ws : it", "asked"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        if result.fault:
            continue
        ratio, asked = measured.get(result.server), row.at_most.get(result.server)
        table.add_row(
            result.server,
            rate(result),
            with_extremes(result.spread("cpu_us")),
            f"{result.spread('p50_us').median:,.0f}",
            f"{result.spread('p99_us').median:,.0f}",
            f"{result.spread('kb_per_connection').median:.2f}",
            with_extremes(ratio) if ratio else "",
            f"≤ {asked:.2f}" if asked else "",
        )
    return table


def rate(result: Result) -> str:
    star = "*" if any(each.starved for each in result.rounds) else ""
    return f"{star}{result.spread('per_s').median:,.0f}"


def curve(curve: Curve, points: Mapping[int, list[Result]]) -> Table:
    """Show one kind of growth, a line for each server."""
    title = f"CPU µs: {curve.name}, by {curve.axis}"
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column("server", min_width=12)
    for size in points:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("last : first", justify="right")
    for cells in curve_cells(points):
        table.add_row(*cells)
    return table


def curve_cells(points: Mapping[int, list[Result]]) -> Iterator[list[str]]:
    servers = [result.server for result in next(iter(points.values()), [])]
    for place, server in enumerate(servers):
        grown = growth(points, place)
        costs = (results[place] for results in points.values())
        yield [
            server,
            *("-" if each.fault else f"{each.spread('cpu_us').median:.2f}" for each in costs),
            "-" if grown is None else f"{grown:.2f}",
        ]


def latency(measured: Latency) -> Table:
    """Show the percentiles, a line for each server and load."""
    title = "Latency below capacity (open loop)"
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column("server", min_width=12)
    for heading in LATENCY_HEADINGS[1:]:
        table.add_column(heading, justify="right")
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


# For a page ---------------------------------------------------------------------------------------


def markdown(comparison: Comparison, plots: Sequence[str]) -> str:
    """Return all tables, with what is needed to repeat them."""
    return "\n\n".join(sections(comparison, plots)) + "\n"


def sections(comparison: Comparison, plots: Sequence[str]) -> Iterator[str]:
    yield heading(comparison)
    if comparison.rows:
        yield "#### What is asked, and what was measured"
        yield asked(comparison)
        yield "#### Server CPU, µs for a message, a delivery, a handshake"
        yield by_server(comparison, "cpu_us", "{:.2f}")
        yield "#### Rate, a second (* the generator was the limit: a lower bound)"
        yield by_server(comparison, "per_s", "{:,.0f}")
        yield "#### Resident memory, kB for a connection"
        yield memory(comparison)
    if comparison.decoder:
        yield "#### Decoding and unmasking, alone: how many times as fast"
        yield decoders(comparison)
    for each in CURVES:
        if points := comparison.curves.get(each.key):
            yield f"#### Growth: {each.name}, by {each.axis} (CPU µs; asked ≤ {each.at_most:.2f})"
            headings = ["server", *(f"{size:,}" for size in points), "last : first"]
            yield table(headings, curve_cells(points))
    if comparison.latency:
        yield "#### Latency below capacity, an open loop"
        yield table(LATENCY_HEADINGS, latency_cells(comparison.latency))
    if plots:
        yield "\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in plots)
    yield "#### What we lose"
    yield "\n".join(f"- {text}" for text in losses(comparison)) or "Nothing in this run."
    absent = {**comparison.not_measured, **comparison.failed}
    if absent:
        yield "#### Not measured"
        lines = ((name, reason.splitlines()[0]) for name, reason in absent.items())
        yield "\n".join(f"- {name}: {reason}" for name, reason in lines)


def heading(comparison: Comparison) -> str:
    machine, effort = comparison.machine, comparison.effort
    versions = ", ".join(
        f"{name} {version}"
        for name, version in sorted(
            {name: v for each in comparison.versions.values() for name, v in each.items()}.items()
        )
    )
    return (
        f"### Beside the best: `{comparison.command}`\n\n"
        f"{comparison.began}, commit {comparison.commit}, {machine['cores']} cores of {machine['cpu']},"
        f" {machine['system']}, Python {machine['python']}, load average before:"
        f" {machine['load_average']:.1f}. {effort.rounds} rounds of {effort.seconds:g} s."
        f" {versions}. Medians; a ratio is taken within each round."
    )


def asked(comparison: Comparison) -> str:
    measured = ((row, comparison.rows.get(row.scenario.name)) for row in ROWS)
    return table(
        ["scenario", "rakit_ws : peer"],
        ([row.scenario.name, judged(row, results)] for row, results in measured if results),
    )


def by_server(comparison: Comparison, figure: str, shape: str) -> str:
    names = list(comparison.versions)
    rows = []
    for scenario, results in comparison.rows.items():
        cells = dict.fromkeys(names, "-")
        for result in results:
            if not result.fault:
                star = "*" if figure == "per_s" and rate(result).startswith("*") else ""
                cells[result.server] = star + shape.format(result.spread(figure).median)
        rows.append([scenario, *cells.values()])
    return table(["scenario", *names], rows)


def memory(comparison: Comparison) -> str:
    names = list(comparison.versions)
    rows = []
    for scenario, results in comparison.rows.items():
        if not scenario.startswith("hold"):
            continue
        cells = dict.fromkeys(names, "-")
        for result in results:
            if not result.fault:
                cells[result.server] = f"{result.spread('kb_per_connection').median:.2f}"
        rows.append([scenario, *cells.values()])
    rows.append(["asked of rakit_ws at 15,000", f"{IDLE_KB:.1f}", *[""] * (len(names) - 1)])
    return table(["scenario", *names], rows)


def decoders(comparison: Comparison) -> str:
    rows = []
    for row in DECODER_ROWS:
        words = [
            text if met else f"**missed**: {text}"
            for met, text in decoder_verdicts(comparison, row)
        ]
        if words:
            rows.append([str(row.case), "; ".join(words)])
    return table(["case", f"{RAKIT_WS.name} : it"], rows)


def table(headings: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def put_into_readme(text: str, directory: Path) -> None:
    """Put the tables where `README.md` shows them; links lead to the plots of this run."""
    page = README.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{README} lacks {BEGIN} … {END}")
    place = directory.resolve().relative_to(README.parent)
    text = text.replace("](", f"]({place}/")
    README.write_text(f"{before}{BEGIN}\n{text}{END}{after}", "utf-8")
