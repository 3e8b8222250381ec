"""What `compare.py` measures and asks is what was set as its targets, all of it."""

from __future__ import annotations

import fixed  # noqa: F401 - the path of the benches
import pytest

import targets
from servers import PEERS

# Scenario, and the CPU time asked for as a share of each peer's.
ASKED = {
    "echo 64 B binary, 50 x 32": {"bun": 0.80, "picows": 0.05},
    "channel, 50 x 32": {"bun": 0.80, "picows": 0.10},
    "echo 64 B binary, 50 x 1": {"bun": 1.00, "picows": 0.85},
    "channel, 50 x 1": {"bun": 1.00, "picows": 0.85},
    "fan-out to 1,000 x 1": {"bun": 0.85},
    "fan-out to 1,000 x 16": {"bun": 0.85},
    "echo 64 KiB binary, 10 x 1": {"bun": 0.55},
    "echo 1 MiB binary, 4 x 1": {"bun": 0.60},
    "hold 2,000": {"bun": 1.3},
    "fan-out 1 KiB to 1,000 x 1, permessage-deflate": {"bun": 0.40},
    "channel 1 KiB, 50 x 8, permessage-deflate": {"bun": 0.70},
}
ASKED_KB = {"hold 15,000": 2.0, "hold 15,000 after a burst": 2.0}
ASKED_OF_DECODERS = {
    "binary 64 B": {"reference (Python)": 14, "websockets": 30},
    "binary 1 MiB": {"websockets": 1.2},
    "mask 1 MiB": {"memcpy": 0.7},
}
# First and last size, and how many times the first the last may cost.
GROWTH = {
    "subscribers": (100, 10_000, 1.3),
    "channels": (10, 10_000, 1.2),
    "connections": (100, 10_000, 1.2),
    "churn-channels": (100, 10_000, 1.2),
    "idle": (50, 15_000, 1.1),
}

BY_NAME = {row.scenario.name: row for row in targets.ROWS}


@pytest.mark.parametrize("name", ASKED)
def test_row_asks_for_its_share_of_each_peer(name):
    assert BY_NAME[name].at_most == ASKED[name]
    assert BY_NAME[name].figure == "cpu_us"
    assert BY_NAME[name].ceiling is None


@pytest.mark.parametrize("name", ASKED_KB)
def test_row_asks_for_its_kilobytes(name):
    row = BY_NAME[name]
    assert (row.figure, row.ceiling) == ("kb_per_connection", ASKED_KB[name])
    assert row.scenario.connections == 15_000


def test_no_row_is_there_twice():
    assert len(BY_NAME) == len(targets.ROWS)


def test_rows_ask_for_nothing_of_unknown_peers():
    named = {peer for row in targets.ROWS for peer in row.at_most}
    assert named | {*targets.CURVE_PEERS, *targets.LATENCY_PEERS} <= set(PEERS)


@pytest.mark.parametrize("case", ASKED_OF_DECODERS)
def test_decoder_row_asks_for_its_times(case):
    asked = {str(row.case): row.at_least for row in targets.DECODER_ROWS}
    assert asked[case] == ASKED_OF_DECODERS[case]


@pytest.mark.parametrize("key", GROWTH)
def test_curve_goes_from_its_first_size_to_its_last(key):
    [curve] = [each for each in targets.CURVES if each.key == key]
    sizes = [size for size, _ in curve.points]
    assert (sizes[0], sizes[-1], curve.at_most) == GROWTH[key]
    assert sizes == sorted(set(sizes))
    assert len({scenario.name for _, scenario in curve.points}) == len(sizes)


def test_curves_are_told_apart_by_key_and_by_title():
    assert {each.key for each in targets.CURVES} == set(GROWTH)
    assert len({each.title for each in targets.CURVES}) == len(GROWTH)


def test_size_of_a_curve_is_what_its_scenarios_do():
    for curve in targets.CURVES:
        for size, scenario in curve.points:
            assert f" {size} " in f"{scenario.arguments} ", (curve.key, scenario.arguments)


def test_latency_is_looked_at_from_a_tenth_of_capacity_to_nine_tenths():
    assert tuple(tenth / 10 for tenth in range(1, 10)) == targets.LOADS
    assert set(targets.QUICK_LOADS) <= set(targets.LOADS)
