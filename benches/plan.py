"""What a run of `compare.py` is to measure, of whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from load import SPARE_DESCRIPTORS, console, installed
from machine import raise_descriptor_limit
from servers import PEERS, RAKIT_WS
from targets import CURVE_PEERS, CURVES, DECODER_ROWS, LATENCY_PEERS, LOADS, QUICK_LOADS, ROWS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from comparison import Comparison
    from load import Result
    from servers import Server
    from targets import Curve, Row

PARTS = ("decoder", "table", "curves", "latency")


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

    def without(self, done: Comparison) -> Plan:
        """Return what is left of it: what has failed is to be tried again."""

        def is_done(results: Sequence[Result] | None, servers: Sequence[Server]) -> bool:
            sound = {result.server for result in results or () if not result.fault}
            return sound >= {server.name for server in servers}

        def rest(curve: Curve) -> Curve:
            measured, servers = done.curves.get(curve.key, {}), self.among(CURVE_PEERS)
            left = (each for each in curve.points if not is_done(measured.get(each[0]), servers))
            return replace(curve, points=tuple(left))

        listening = self.among(LATENCY_PEERS)
        heard = [set(self.loads) <= set(done.latency.get(each.name, ())) for each in listening]
        return replace(
            self,
            rows=[
                row
                for row in self.rows
                if not is_done(done.rows.get(row.scenario.name), self.serving(row))
            ],
            curves=[left for curve in self.curves if (left := rest(curve)).points],
            loads=() if all(heard) else self.loads,
            decodes=self.decodes and len(done.decoder) < len(DECODER_ROWS),
        )


def planned(arguments: argparse.Namespace, missing: dict[str, str]) -> Plan:
    """Return what the arguments ask for; note what this machine cannot do."""
    quick, text, parts = arguments.quick, arguments.scenarios, arguments.parts
    descriptors = raise_descriptor_limit()

    def chosen(part: str, each: Row | Curve, name: str) -> bool:
        return part in parts and text in name and (each.quick or bool(text) or not quick)

    rows = [row for row in ROWS if chosen("table", row, row.scenario.name)]
    for row in list(rows):
        if row.scenario.connections + SPARE_DESCRIPTORS > descriptors:
            missing[row.scenario.name] = f"only {descriptors} descriptors"
            rows.remove(row)
    curves = [
        cut_to(curve, descriptors, missing)
        for curve in CURVES
        if chosen("curves", curve, curve.name)
    ]
    loads = QUICK_LOADS if quick else LOADS
    for name, reason in missing.items():
        console.print(f"NOT MEASURED: {name}: {reason}", style="red", markup=False)
    peers = list(PEERS.values()) if arguments.peers is None else arguments.peers
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
        missing[curve.title] = f"only {descriptors} descriptors: cut short"
    return replace(curve, points=fit)


def without_middle(curve: Curve) -> Curve:
    return replace(curve, points=(curve.points[0], curve.points[-1]))
