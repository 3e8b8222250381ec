"""Whether what is asked is met, missed or not known; and what a run says that rakit_ws loses."""

from __future__ import annotations

import fixed
import pytest
from fixed import comparison, decoded, growing, result, row_of

import decode
import targets
import verdicts

BINARY_64, *_ = targets.DECODER_ROWS


def of_row(row, run):
    """Return for each peer what came of it."""
    return {each.beside: each.met for each in verdicts.of_row(run, row)}


@pytest.mark.parametrize(
    ("own", "met"), [((0.79,) * 3, True), ((0.80,) * 3, True), ((0.81,) * 3, False)]
)
def test_share_of_a_peer_is_met_up_to_its_limit(own, met):
    run = comparison(rows=[row_of(fixed.ECHO, rakit_ws=own, bun=(1, 1, 1), picows=(99,) * 3)])
    assert of_row(fixed.ECHO, run) == {"bun": met, "picows": True}


def test_median_of_the_ratios_decides_and_their_extremes_are_told():
    run = comparison(rows=[row_of(fixed.FANOUT, rakit_ws=(9, 0.8, 0.1), bun=(1, 1, 1))])
    [verdict] = verdicts.of_row(run, fixed.FANOUT)
    assert (verdict.met, verdict.measured) == (True, "0.80 (0.10 .. 9.00)")
    assert str(verdict) == "fan-out to 1,000 x 16, beside bun: 0.80 (0.10 .. 9.00), asked ≤ 0.85"


@pytest.mark.parametrize(("kilobytes", "met"), [(1.99, True), (2.0, True), (2.01, False)])
def test_ceiling_is_kept_up_to_it(kilobytes, met):
    own = result(fixed.IDLE.scenario, "rakit_ws", 1, kb_per_connection=kilobytes)
    [verdict] = verdicts.of_row(comparison(rows=[[own]]), fixed.IDLE)
    assert (verdict.met, verdict.measured) == (met, f"{kilobytes:.2f} kB")


def test_peer_that_failed_leaves_open_what_was_asked_beside_it_alone():
    run = comparison(
        rows=[row_of(fixed.ECHO, rakit_ws=(0.5,) * 3, bun="went away\nmore", picows=(99,) * 3)]
    )
    bun, picows = verdicts.of_row(run, fixed.ECHO)
    assert (bun.met, bun.measured) == (None, "bun failed: went away")
    assert picows.met is True


def test_peer_that_is_not_installed_is_said_to_be():
    run = comparison(
        rows=[row_of(fixed.FANOUT, rakit_ws=(1, 1, 1))], not_measured={"bun": "no bun here"}
    )
    [verdict] = verdicts.of_row(run, fixed.FANOUT)
    assert (verdict.met, verdict.measured) == (None, "no bun here")


def test_peer_that_was_not_asked_for_is_said_to_be_none_of_the_run():
    run = comparison(rows=[row_of(fixed.FANOUT, rakit_ws=(1, 1, 1))])
    [verdict] = verdicts.of_row(run, fixed.FANOUT)
    assert (verdict.met, verdict.measured) == (None, "not among the peers of this run")


def test_row_in_which_rakit_ws_fails_is_missed():
    run = comparison(rows=[row_of(fixed.ECHO, rakit_ws="crashed", bun=(1,) * 3, picows=(1,) * 3)])
    assert of_row(fixed.ECHO, run) == {"bun": False, "picows": False}
    own = row_of(fixed.IDLE, rakit_ws="crashed")
    [verdict] = verdicts.of_row(comparison(rows=[own]), fixed.IDLE)
    assert (verdict.met, verdict.measured) == (False, "rakit_ws failed: crashed")


def test_row_that_was_not_measured_is_open():
    assert of_row(fixed.ECHO, comparison()) == {"bun": None, "picows": None}
    run = comparison(not_measured={"hold 15,000": "only 1024 descriptors"})
    [verdict] = verdicts.of_row(run, fixed.IDLE)
    assert (verdict.met, verdict.measured) == (None, "only 1024 descriptors")


@pytest.mark.parametrize(("times", "met"), [(13.9, False), (14, True), (14.1, True)])
def test_decoder_is_to_be_so_many_times_as_fast(times, met):
    figures = decoded(BINARY_64.case, {"rakit_ws": 1, "reference (Python)": times})
    run = comparison(decoder={"binary 64 B": figures})
    reference, websockets = verdicts.of_decoder(run, BINARY_64)
    assert (reference.beside, reference.met) == ("reference (Python)", met)
    assert (websockets.beside, websockets.met) == ("websockets", None)


# --- Curves -----------------------------------------------------------------------------------


def of_curve(points, **further):
    curve = fixed.SUBSCRIBERS
    return verdicts.of_curve(comparison(curves={curve.key: points}, **further), curve)


@pytest.mark.parametrize(("last", "met"), [(1.29, True), (1.3, True), (1.31, False)])
def test_last_point_may_cost_so_many_times_the_first(last, met):
    verdict = of_curve(growing(fixed.SUBSCRIBERS, bun=(1, 1, 9), rakit_ws=(1, 5, last)))
    assert (verdict.met, verdict.measured) == (met, f"{last:.2f}")


def test_curve_without_its_last_point_says_nothing():
    points = growing(fixed.SUBSCRIBERS, rakit_ws=(1, 1, 1))
    points.pop(10_000)
    why = {fixed.SUBSCRIBERS.title: "only 4096 descriptors: cut short"}
    verdict = of_curve(points, not_measured=why)
    assert (verdict.met, verdict.measured) == (None, "only 4096 descriptors: cut short")
    assert of_curve({}).met is None


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_curve_in_which_rakit_ws_fails_is_missed(size):
    points = growing(fixed.SUBSCRIBERS, rakit_ws=(1, 1, 1))
    points[size][0].fault = "crashed"
    verdict = of_curve(points)
    assert (verdict.met, verdict.measured) == (False, "rakit_ws failed: crashed")


def test_growth_is_none_where_an_end_failed():
    points = growing(fixed.SUBSCRIBERS, bun=(1, 2, 4))
    assert verdicts.growth(points, "bun") == 4
    points[1_000][0].fault = "went away"
    assert verdicts.growth(points, "bun") == 4
    points[10_000][0].fault = "went away"
    assert verdicts.growth(points, "bun") is None
    assert verdicts.growth(points, "nobody") is None


# --- All of it --------------------------------------------------------------------------------


def test_everything_that_is_asked_has_a_verdict_even_where_nothing_was_measured():
    asked = sum(len(row.at_most) + (row.ceiling is not None) for row in targets.ROWS)
    asked += sum(len(row.at_least) for row in targets.DECODER_ROWS) + len(targets.CURVES)
    found = list(verdicts.everything(comparison()))
    assert len(found) == asked == len({(each.name, each.beside) for each in found})
    assert {each.met for each in found} == {None}
    assert list(verdicts.losses(comparison())) == []


def test_losses_are_what_is_missed_and_where_a_peer_is_better():
    assert list(verdicts.losses(fixed.a_whole_run())) == [
        "echo 64 B binary, 50 x 32, beside bun: 1.00 (0.90 .. 1.10), asked ≤ 0.80",
        "binary 64 B, beside websockets: 10.00, asked ≥ 30",
        "growth: a delivery, 16 publications under way, by subscribers of the channel:"
        " 1.50, asked ≤ 1.30",
        "hold 2,000, beside bun: 1.20 (no more is asked)",
    ]


def test_peer_of_which_nothing_was_asked_is_a_loss_where_it_is_better():
    run = comparison(
        rows=[row_of(fixed.FANOUT, rakit_ws=(2, 2, 2), ws=(1, 1, 1), aiohttp=(3,) * 3)]
    )
    [loss] = verdicts.losses(run)
    assert loss.startswith("fan-out to 1,000 x 16, beside ws: 2.00")


def test_loss_is_told_once():
    run = comparison(rows=[row_of(fixed.ECHO, rakit_ws=(2, 2), bun=(1, 1), picows=(99, 99))])
    [loss] = verdicts.losses(run)
    assert loss == "echo 64 B binary, 50 x 32, beside bun: 2.00, asked ≤ 0.80"


def test_memory_is_compared_where_memory_is_asked():
    own = result(fixed.IDLE.scenario, "rakit_ws", 1, kb_per_connection=1.8)
    bun = result(fixed.IDLE.scenario, "bun", 5, kb_per_connection=1.2)
    [loss] = verdicts.losses(comparison(rows=[[own, bun]]))
    assert loss.startswith("hold 15,000, beside bun: 1.50")


def test_implementation_that_decodes_faster_is_a_loss():
    case = decode.Case("mask", "1 MiB", 1 << 20)
    figures = decoded(case, {"rakit_ws": 1, "websockets (C)": 0.5, "memcpy": 0.75})
    assert list(verdicts.losses(comparison(decoder={str(case): figures}))) == [
        "mask 1 MiB, beside websockets (C): 0.50 times as fast (no more is asked)",
        "mask 1 MiB, beside memcpy: 0.75 times as fast (no more is asked)",
    ]
