"""Whether what is asked of rakit_ws is so, by what was measured; and what it loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from load import with_extremes
from servers import RAKIT_WS
from targets import CURVES, DECODER_ROWS, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from comparison import Comparison
    from load import Result
    from targets import Curve, DecoderRow, Row

OWN = RAKIT_WS.name


@dataclass(frozen=True)
class Verdict:
    """One thing that is asked; `met` is None where this run does not tell, and `measured` says why."""

    name: str
    beside: str
    asked: str
    measured: str
    met: bool | None

    def __str__(self) -> str:
        beside = f", beside {self.beside}" if self.beside else ""
        return f"{self.name}{beside}: {self.measured}, asked {self.asked}"


def everything(comparison: Comparison) -> Iterator[Verdict]:
    """Tell it of all that is asked, whether it was in this run or not."""
    for row in ROWS:
        yield from of_row(comparison, row)
    for decoder in DECODER_ROWS:
        yield from of_decoder(comparison, decoder)
    for curve in CURVES:
        yield of_curve(comparison, curve)


def losses(comparison: Comparison) -> Iterator[str]:
    """List what is missed; then where a peer is better though no more was asked."""
    missed = [verdict for verdict in everything(comparison) if verdict.met is False]
    yield from map(str, missed)
    told = {(verdict.name, verdict.beside) for verdict in missed}
    for name, other, text in better_peers(comparison):
        if (name, other) not in told:
            yield f"{name}, beside {other}: {text} (no more is asked)"


# Rows ---------------------------------------------------------------------------------------------


def of_row(comparison: Comparison, row: Row) -> Iterator[Verdict]:
    """Tell whether each peer is beaten as asked, and whether the ceiling is kept."""
    name = row.scenario.name
    results = {result.server: result for result in comparison.rows.get(name, ())}
    own = results.get(OWN)
    for peer, limit in row.at_most.items():
        asked = f"≤ {limit:.2f}"
        if own is not None and own.fault:
            yield Verdict(name, peer, asked, failed(own), met=False)
        elif reason := absence(comparison, name, OWN) or absence(comparison, name, peer):
            yield Verdict(name, peer, asked, reason, met=None)
        elif own is not None:
            ratio = own.cpu_relative_to(results[peer])
            yield Verdict(name, peer, asked, with_extremes(ratio), met=ratio.median <= limit)
    if row.ceiling is not None:
        asked = f"≤ {row.ceiling:.1f} kB"
        if own is None:
            yield Verdict(name, "", asked, absence(comparison, name, OWN), met=None)
        elif own.fault:
            yield Verdict(name, "", asked, failed(own), met=False)
        else:
            figure = own.spread(row.figure)
            measured = f"{with_extremes(figure)} kB"
            yield Verdict(name, "", asked, measured, met=figure.median <= row.ceiling)


def absence(comparison: Comparison, name: str, server: str) -> str:
    """Tell why there is no figure of a server in a row; empty if there is one."""
    results = comparison.rows.get(name)
    if results is None:
        return comparison.not_measured.get(name, "not in this run")
    for result in results:
        if result.server == server:
            return failed(result) if result.fault else ""
    return comparison.not_measured.get(server, "not among the peers of this run")


def failed(result: Result) -> str:
    return f"{result.server} failed: {first_line(result.fault)}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def better_peers(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yield row, peer and text where a peer needs less, whatever was asked."""
    for row in ROWS:
        name = row.scenario.name
        for peer, ratio in ratios(comparison.rows.get(name, ()), row.figure).items():
            if ratio > 1:
                yield name, peer, f"{ratio:.2f}"
    for decoder in DECODER_ROWS:
        for result in comparison.decoder.get(str(decoder.case), ()):
            other, times = result.implementation, result.times_slower.median
            if times < 1:
                yield str(decoder.case), other, f"{times:.2f} times as fast"


def ratios(results: Sequence[Result], figure: str) -> dict[str, float]:
    """Tell how many times each peer's figure that of rakit_ws is; CPU time round by round."""
    sound = {result.server: result for result in results if not result.fault}
    own = sound.pop(OWN, None)
    if own is None:
        return {}
    if figure == "cpu_us":
        return {name: own.cpu_relative_to(peer).median for name, peer in sound.items()}
    least = 1e-9  # What has not grown at all.
    mine = own.spread(figure).median
    return {name: mine / max(peer.spread(figure).median, least) for name, peer in sound.items()}


# Decoders and curves ------------------------------------------------------------------------------


def of_decoder(comparison: Comparison, row: DecoderRow) -> Iterator[Verdict]:
    """Tell whether rakit_ws is so many times as fast as each implementation."""
    name = str(row.case)
    results = {each.implementation: each for each in comparison.decoder.get(name, ())}
    for implementation, limit in row.at_least.items():
        result, asked = results.get(implementation), f"≥ {limit:g}"
        if result is None:
            yield Verdict(name, implementation, asked, "not in this run", met=None)
        else:
            times = result.times_slower
            met = times.median >= limit
            yield Verdict(name, implementation, asked, with_extremes(times), met=met)


def of_curve(comparison: Comparison, curve: Curve) -> Verdict:
    """Tell whether the last point costs no more times the first than asked; both are needed."""
    name, asked = f"growth: {curve.title}", f"≤ {curve.at_most:.2f}"
    points = comparison.curves.get(curve.key, {})
    for results in points.values():
        for result in results:
            if result.server == OWN and result.fault:
                return Verdict(name, "", asked, failed(result), met=False)
    ends = [points.get(size) for size in (curve.points[0][0], curve.points[-1][0])]
    grown = growth(points, OWN)
    if grown is None or None in ends:
        reason = comparison.not_measured.get(curve.title, "not in this run")
        return Verdict(name, "", asked, reason, met=None)
    return Verdict(name, "", asked, f"{grown:.2f}", met=grown <= curve.at_most)


def growth(points: Mapping[int, Sequence[Result]], server: str) -> float | None:
    """Tell how many times the first point's CPU time the last one took; None if one failed."""
    costs = [
        None if result.fault else result.spread("cpu_us").median
        for results in points.values()
        for result in results
        if result.server == server
    ]
    # A first point of no tick is too short to tell.
    if len(costs) < 2 or not costs[0] or costs[-1] is None:
        return None
    return costs[-1] / costs[0]
