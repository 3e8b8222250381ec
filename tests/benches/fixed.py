"""Figures that nobody has measured, for tests of what the benches make of theirs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benches"))

import decode
from comparison import Comparison
from decode import Spread
from effort import Effort
from load import Result, Round
from targets import CURVES, LATENCY, ROWS

ROOT = Path(__file__).parents[2]
ROWS_BY_NAME = {row.scenario.name: row for row in ROWS}
ECHO, ONE_IN_FLIGHT, FANOUT, HANDSHAKE, IDLE = (
    ROWS_BY_NAME[name]
    for name in (
        "echo 64 B binary, 50 x 32",
        "echo 64 B binary, 50 x 1",
        "fan-out to 1,000 x 16",
        "hold 2,000",
        "hold 15,000",
    )
)
SUBSCRIBERS = next(curve for curve in CURVES if curve.key == "subscribers")
EFFORT = Effort(rounds=3, warmup_s=1.0, seconds=3.0)


def a_round(**figures):
    usual = {"per_s": 1000.0, "cpu_us": 1.0, "kb_per_connection": 1.5, "late_p99_us": 2.0}
    usual |= {"p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0, "max_us": 40.0}
    usual |= {"server_busy": 0.99, "generator_busy": 0.5}
    return Round(**{**usual, **figures})


def result(scenario, server, *cpu_us, fault="", **figures):
    """Make a server's result of a scenario, from the CPU time of each round."""
    rounds = [a_round(cpu_us=each, **figures) for each in cpu_us]
    return Result(scenario, server, rounds, fault)


def row_of(row, **cpu_us):
    """Make the results of a row, from the CPU times of each server; a text is a fault."""
    return [
        result(row.scenario, server, fault=each)
        if isinstance(each, str)
        else result(row.scenario, server, *each)
        for server, each in cpu_us.items()
    ]


def decoded(case, times_slower):
    return [
        decode.Result(
            case.kind,
            case.size,
            name,
            Spread(1e6, 1e6, 1e6),
            Spread(64, 64, 64),
            Spread(each, each, each),
        )
        for name, each in times_slower.items()
    ]


def comparison(*, rows=(), curves=None, latency=None, decoder=None, **further):
    """Make a run that was finished; rows are those of `row_of`."""
    by_name = {results[0].scenario.name: results for results in rows}
    servers = dict.fromkeys(each.server for results in rows for each in results)
    settings = {
        "command": "python benches/compare.py",
        "began": "2026-11-25 20:00",
        "commit": "0123456",
        "machine": {
            "cpu": "a CPU",
            "cores": 2,
            "memory": "8 GB",
            "system": "Linux",
            "python": "3.11.7",
            "load_average": 0.25,
        },
        "versions": {name: {name: "1.0"} for name in servers},
        "effort": EFFORT,
        "finished": True,
    }
    return Comparison(
        **{**settings, **further},
        rows=by_name,
        curves=curves or {},
        latency=latency or {},
        decoder=decoder or {},
    )


def growing(curve, **cpu_us):
    """Make the points of a curve, from the CPU times of each server at each size."""
    return {
        size: [result(scenario, server, costs[place]) for server, costs in cpu_us.items()]
        for place, (size, scenario) in enumerate(curve.points)
    }


def a_whole_run():
    """Make a run in which everything occurs: met, missed, failed, absent."""
    return comparison(
        rows=[
            row_of(ECHO, rakit_ws=(0.9, 1.0, 1.1), bun=(1.0, 1.0, 1.0), picows=(50, 50, 50)),
            row_of(FANOUT, rakit_ws=(0.4, 0.5, 0.6), bun=(1.0, 1.0, 1.0), picows=(5, 5, 5)),
            row_of(HANDSHAKE, rakit_ws=(20, 24, 26), bun=(20, 20, 20), picows="went away\nwhy"),
            row_of(IDLE, rakit_ws=(20, 20, 20), bun=(20, 20, 20), picows=(90, 90, 90)),
        ],
        curves={"subscribers": growing(SUBSCRIBERS, rakit_ws=(1, 1.1, 1.5), bun=(1, 1, 1))},
        latency={
            name: {
                load: result(LATENCY.at_rate(1000 * load), name, 1.0, p99_us=100 * load)
                for load in (0.1, 0.5, 0.9)
            }
            for name in ("rakit_ws", "bun")
        },
        decoder={
            "binary 64 B": decoded(
                decode.Case("binary", "64 B", 64),
                {"rakit_ws": 1, "reference (Python)": 20, "websockets": 10},
            )
        },
        not_measured={"ws": "no node here"},
        failed={"hold 2,000: picows": "went away\nwhy"},
    )
