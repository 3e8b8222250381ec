"""What `compare.py` has measured, as plots. Without matplotlib there are none."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from targets import CURVES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from comparison import Comparison
    from load import Result

# Told apart by the colour-blind too (Okabe and Ito, 2008).
COLOURS = {
    "rakit_ws": "#D55E00",
    "bun": "#0072B2",
    "picows": "#009E73",
    "websockets": "#E69F00",
    "aiohttp": "#CC79A7",
    "uvicorn": "#56B4E9",
    "socketify": "#000000",
    "ws": "#999999",
}
PERCENTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}


def draw(comparison: Comparison, directory: Path) -> list[str]:
    """Draw what there is into a directory; return the names of the files."""
    if importlib.util.find_spec("matplotlib") is None:
        comparison.not_measured["plots"] = "matplotlib is not installed"
        return []
    import matplotlib as mpl

    mpl.use("svg")
    # No date, no random names: the same figures make the same file.
    mpl.rcParams.update({"svg.hashsalt": "rakit_ws", "font.size": 9, "axes.axisbelow": True})
    # Text stays text: it can be searched, and takes fewer bytes.
    mpl.rcParams["svg.fonttype"] = "none"
    drawn = []
    if comparison.rows:
        cpu, rate = "server CPU, µs for a message, delivery, handshake", "a second"
        drawn.append(bars(comparison.rows, "cpu_us", cpu, directory / "cpu.svg"))
        drawn.append(bars(comparison.rows, "per_s", rate, directory / "rate.svg"))
    if comparison.curves:
        drawn.append(curves(comparison, directory / "growth.svg"))
    if comparison.latency:
        drawn.append(latency(comparison, directory / "latency.svg"))
    return drawn


def bars(rows: Mapping[str, Sequence[Result]], figure: str, label: str, path: Path) -> str:
    """Draw a group of bars for each scenario, with the extremes of the rounds."""
    from matplotlib import pyplot

    servers = list(dict.fromkeys(each.server for results in rows.values() for each in results))
    height = 0.8 / len(servers)
    chart, axes = pyplot.subplots(figsize=(9, 0.6 + len(rows) * (0.3 + 0.12 * len(servers))))
    for number, server in enumerate(servers):
        places, middles, below, above = [], [], [], []
        for place, results in enumerate(rows.values()):
            for result in results:
                if result.server == server and not result.fault:
                    spread = result.spread(figure)
                    places.append(place + number * height)
                    middles.append(spread.median)
                    below.append(spread.median - spread.min)
                    above.append(spread.max - spread.median)
        if places:
            colour = COLOURS.get(server)
            axes.barh(places, middles, height, xerr=[below, above], label=server, color=colour)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(rows))], list(rows))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1 + 0.5 / len(rows)), ncols=4)
    return save(chart, path)


def curves(comparison: Comparison, path: Path) -> str:
    """Draw a panel for each kind of growth."""
    from matplotlib import pyplot

    drawn = [each for each in CURVES if each.key in comparison.curves]
    chart, panels = pyplot.subplots(1, len(drawn), figsize=(3.2 * len(drawn), 3), squeeze=False)
    for axes, curve in zip(panels[0], drawn, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for size, results in comparison.curves[curve.key].items():
            for result in results:
                if not result.fault:
                    cost = result.spread("cpu_us").median
                    lines.setdefault(result.server, []).append((size, cost))
        for server, points in lines.items():
            axes.plot(*zip(*points, strict=True), "o-", label=server, color=COLOURS.get(server))
        axes.set_title(curve.name, fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel(curve.axis)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("server CPU, µs")
    panels[0][0].legend()
    return save(chart, path)


def latency(comparison: Comparison, path: Path) -> str:
    """Draw a panel for each percentile."""
    from matplotlib import pyplot

    chart, panels = pyplot.subplots(1, len(PERCENTILES), figsize=(10, 3.2), sharey=True)
    for axes, (figure, name) in zip(panels, PERCENTILES.items(), strict=True):
        for server, loads in comparison.latency.items():
            times = [result.spread(figure).median for result in loads.values()]
            colour = COLOURS.get(server)
            axes.plot([100 * load for load in loads], times, "o-", label=server, color=colour)
        axes.set_title(name)
        axes.set_xlabel("load, % of the server's own capacity")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("µs")
    panels[0].legend()
    return save(chart, path)


def save(chart: Any, path: Path) -> str:
    from matplotlib import pyplot

    chart.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(chart)
    return path.name
