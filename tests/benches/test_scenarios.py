"""The loads of the benches: told apart by name, and such that the generator takes them."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import fixed
import pytest

import scenarios
import targets
from servers import PEERS, RAKIT_WS

ALL = [
    *scenarios.SCENARIOS,
    *(row.scenario for row in targets.ROWS),
    *(scenario for curve in targets.CURVES for _, scenario in curve.points),
    *(targets.LATENCY.at_rate(rate) for rate in (0.001, 12_345.678)),
]
GENERATOR = fixed.ROOT / "benches" / "load"


def generator():
    """Return the newest generator that is built from the sources that there are, or None."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or fixed.ROOT / "target")
    built = [target / profile / "examples" / "load" for profile in ("debug", "release")]
    changed = max(path.stat().st_mtime for path in GENERATOR.glob("*.rs"))
    fresh = [path for path in built if path.exists() and path.stat().st_mtime >= changed]
    return max(fresh, key=lambda path: path.stat().st_mtime, default=None)


def test_names_of_scenarios_are_unique():
    names = [each.name for each in scenarios.SCENARIOS]
    assert len(set(names)) == len(names)


def test_one_name_is_one_load():
    loads = {}
    for each in ALL:
        loads.setdefault(each.name, set()).add((each.application, each.arguments))
    assert [name for name, different in loads.items() if len(different) > 1] == []


@pytest.mark.parametrize("scenario", dict.fromkeys(ALL), ids=lambda each: each.name)
def test_generator_takes_the_arguments(scenario):
    program = generator()
    if program is None:
        pytest.skip("the load generator is not built (cargo build --example load)")
    # It reads what stands before `--help`, and refuses that first.
    command = [program, *scenario.arguments.split(), "--help"]
    read = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert read.returncode == 0, read.stderr


def test_generator_refuses_what_it_does_not_know():
    program = generator()
    if program is None:
        pytest.skip("the load generator is not built (cargo build --example load)")
    for wrong in ("echo --bogus", "echo --in-flight 0", "channel --rate 0", "other"):
        command = [program, *wrong.split(), "--help"]
        read = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert read.returncode == 2, wrong


def test_connections_are_those_that_the_generator_opens():
    for each in ALL:
        words = each.arguments.split()
        options = {
            name: int(value)
            for name, value in itertools.pairwise(words)
            if name in ("--connections", "--subscribers", "--idle")
        }
        opened = sum(options.values()) + ("--subscribers" in options)
        # An echo's few need no descriptors that anybody would lack.
        assert each.connections == opened or each.arguments.startswith("echo"), each.name


def test_rate_makes_an_open_loop_of_the_same_load():
    closed = scenarios.channel(50, 32)
    loop = closed.at_rate(1234.5678)
    assert loop.arguments == f"{closed.arguments} --rate 1234.568"
    assert loop.name == f"{closed.name} at 1,235/s"
    assert (loop.application, loop.connections) == (closed.application, closed.connections)


def test_idle_ones_beside_a_load_count_as_connections():
    beside = scenarios.churn(16).beside(100, channels=1000)
    assert beside.connections == 116
    assert beside.arguments.endswith("--idle 100 --idle-channels 1000")


@pytest.mark.parametrize("server", [RAKIT_WS, *PEERS.values()], ids=lambda each: each.name)
def test_each_server_has_a_command_for_what_it_serves(server):
    for application in ("echo", "channel", "growth", "deflate"):
        if server.serves(application):
            command = server.command(application, 1234)
            assert "1234" in command
            assert not [word for word in command if "{" in word]
        else:
            assert server.command(application, 1234) == []
