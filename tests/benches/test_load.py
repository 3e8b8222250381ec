"""What `load.py` makes of the generator's report, and of the rounds of several servers."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import asdict

import fixed
import pytest
from fixed import a_round, result

import load
from decode import Spread
from effort import FULL, Effort
from load import Bench, Result, RunError, figures, measure
from scenarios import channel, echo, hold
from servers import PEERS, RAKIT_WS, peers_named

CHANNEL = channel(50, 32)
TICK_S = 1 / load.TICKS_PER_S


def used(cpu_ticks, resident_kb):
    return {"cpu_ticks": cpu_ticks, "resident_kb": resident_kb}


PHASES = {
    "opening": {"server": used(0, 1000), "generator": used(0, 0)},
    "opened": {"server": used(7, 1200), "generator": used(2, 0)},
    "warming": {"server": used(8, 1300), "generator": used(3, 0)},
    "measuring": {"server": used(100, 1400), "generator": used(50, 0)},
    "measured": {"server": used(300, 1500), "generator": used(100, 0)},
}
REPORT = {
    "connections": 50,
    "seconds": 4.0,
    "opening_s": 0.5,
    "count": 8000,
    "latency_us": {"p50": 1.5, "p99": 2.5, "p99.9": 3.5, "max": 4.5},
    "late_p99_us": 0.25,
}


# --- One run ----------------------------------------------------------------------------------


def test_messages_are_those_of_the_measured_seconds():
    done = figures(CHANNEL, REPORT, PHASES)
    assert done.per_s == 2000
    assert done.cpu_us == pytest.approx(200 * TICK_S / 8000 * 1e6)
    assert done.server_busy == pytest.approx(200 * TICK_S / 4)
    assert done.generator_busy == pytest.approx(50 * TICK_S / 4)
    assert (done.p50_us, done.p99_us, done.p999_us, done.max_us) == (1.5, 2.5, 3.5, 4.5)
    assert done.late_p99_us == 0.25


def test_handshakes_are_those_of_the_opening():
    done = figures(hold(50), REPORT, PHASES)
    assert done.per_s == 100
    assert done.cpu_us == pytest.approx(7 * TICK_S / 50 * 1e6)
    assert done.generator_busy == pytest.approx(2 * TICK_S / 0.5)


def test_memory_grows_from_before_the_first_connection_to_the_end_of_the_load():
    assert figures(CHANNEL, REPORT, PHASES).kb_per_connection == 10


def test_memory_after_a_rest_is_looked_at_then():
    rested = {"server": used(300, 1250), "generator": used(100, 0)}
    assert figures(CHANNEL, REPORT, {**PHASES, "rested": rested}).kb_per_connection == 5


def test_run_without_a_message_is_none():
    with pytest.raises(RunError, match=r"no message in 4\.0 s"):
        figures(CHANNEL, {**REPORT, "count": 0}, PHASES)


@pytest.mark.parametrize(
    ("generator_busy", "server_busy", "is_starved"),
    [(0.96, 0.94, True), (0.95, 0.94, False), (0.96, 0.95, False), (0.96, 0.96, False)],
)
def test_generator_is_the_limit_where_it_alone_had_no_time_left(
    generator_busy, server_busy, is_starved
):
    done = a_round(generator_busy=generator_busy, server_busy=server_busy)
    assert done.starved is is_starved


def test_rate_has_a_star_where_a_single_round_was_starved():
    bound = result(CHANNEL, "bun", 1, 1, 1)
    assert load.rate(bound) == "1,000"
    bound.rounds[1] = a_round(generator_busy=1.0, server_busy=0.5)
    assert load.rate(bound) == "*1,000"


# --- Several rounds ---------------------------------------------------------------------------


def test_ratio_is_taken_within_each_round():
    own, other = result(CHANNEL, "rakit_ws", 1, 20, 3), result(CHANNEL, "bun", 2, 10, 3)
    # That of the medians would be 1.0 without extremes.
    assert own.cpu_relative_to(other) == Spread(1.0, 0.5, 2.0)


def test_ratio_of_different_numbers_of_rounds_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        result(CHANNEL, "a", 1, 2).cpu_relative_to(result(CHANNEL, "b", 1))


def test_ratio_to_a_round_without_a_tick_is_a_number():
    assert result(CHANNEL, "a", 1).cpu_relative_to(result(CHANNEL, "b", 0)).median == pytest.approx(
        1e9
    )


@pytest.mark.parametrize(
    ("values", "spread"), [([3], (3, 3, 3)), ([9, 1, 2], (2, 1, 9)), ([4, 1, 2, 9], (3, 1, 9))]
)
def test_spread_is_the_median_with_the_extremes(values, spread):
    assert Spread.of(values) == Spread(*spread)


def test_extremes_are_shown_where_there_are_any():
    assert load.with_extremes(Spread(1.234, 1.234, 1.234)) == "1.23"
    assert load.with_extremes(Spread(1, 0.5, 2)) == "1.00 (0.50 .. 2.00)"


@pytest.mark.parametrize("fault", ["", "it went away"])
def test_result_survives_json(fault):
    own, other = result(CHANNEL, "rakit_ws", 1, 2, fault=fault), result(CHANNEL, "bun", 2, 2)
    kept = json.loads(json.dumps(own.as_json([own, other])))
    assert Result.from_json(kept) == own
    assert kept["cpu_relative_to"] == {"bun": {"median": 0.75, "min": 0.5, "max": 1.0}}
    assert kept["median"]["cpu_us"] == 1.5


def test_result_of_no_round_survives_json():
    own = result(CHANNEL, "rakit_ws", fault="never listened")
    assert Result.from_json(own.as_json([])) == own


class Rounds(Bench):
    """Notes whose turn it was; some fail."""

    turns: list[str]
    failing = ()

    def run(self, scenario, server, show):
        self.turns.append(server.name)
        if (server.name, self.turns.count(server.name)) in self.failing:
            raise RunError("it went away")
        return a_round()


@pytest.fixture
def bench():
    bench = Rounds(fixed.ROOT / "nothing", Effort(3, 0, 0))
    object.__setattr__(bench, "turns", [])
    return bench


THREE = [RAKIT_WS, PEERS["bun"], PEERS["picows"]]


def test_servers_take_turns_and_nobody_is_always_the_first(bench):
    measure(bench, CHANNEL, THREE, lambda _: None)
    rounds = [bench.turns[at : at + 3] for at in range(0, 9, 3)]
    assert [each[0] for each in rounds] == ["rakit_ws", "bun", "picows"]
    assert [sorted(each) for each in rounds] == [sorted(each.name for each in THREE)] * 3


def test_server_that_fails_is_not_tried_again_and_the_others_go_on(bench):
    object.__setattr__(bench, "failing", [("bun", 2)])
    own, bun, picows = measure(bench, CHANNEL, THREE, lambda _: None)
    assert bench.turns.count("bun") == 2
    assert (bun.fault, len(bun.rounds)) == ("it went away", 1)
    assert [len(each.rounds) for each in (own, picows)] == [3, 3]
    assert own.fault == picows.fault == ""


def test_each_round_of_each_server_moves_the_bar(bench):
    object.__setattr__(bench, "failing", [("bun", 1)])
    shown = []
    measure(bench, CHANNEL, THREE, shown.append)
    assert shown.count("") == 9


# --- Programs ---------------------------------------------------------------------------------


def test_load_is_ended_where_what_goes_on_meanwhile_is_broken_off():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command, text=True)
    with pytest.raises(KeyboardInterrupt), process, load.ended_with(process):
        raise KeyboardInterrupt
    assert process.returncode == -9


def test_generator_is_told_what_to_do():
    bench = Bench(fixed.ROOT / "generator", Effort(1, 0.25, 1.5))
    command = bench.command(echo(10, 1, "64 KiB", "binary"), PEERS["picows"], 1234)
    options = dict(itertools.pairwise(command))
    assert command[:2] == [str(fixed.ROOT / "generator"), "echo"]
    assert {
        "--port": "1234",
        "--path": "/echo",
        "--warmup": "0.25",
        "--seconds": "1.5",
    }.items() <= (options.items())
    assert bench.command(CHANNEL, PEERS["picows"], 1234)[-6] == "/"


# --- Arguments --------------------------------------------------------------------------------


def arguments(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["load.py", *words])
    return load.parse_arguments()


def test_effort_is_the_usual_one_but_for_what_was_given(monkeypatch):
    assert FULL.but(arguments(monkeypatch)) == FULL == Effort(3, 1.0, 3.0)
    shorter = FULL.but(arguments(monkeypatch, "--rounds", "1", "--seconds", "0.5"))
    assert shorter == Effort(1, 1.0, 0.5)
    assert (str(FULL), str(shorter)) == ("3 rounds of 3 s", "1 round of 0.5 s")


@pytest.mark.parametrize(
    "words",
    [
        *(("--rounds", text) for text in ("0", "-1", "1.5")),
        *(("--seconds", text) for text in ("0", "nan", "3601")),
        ("--peers", "nginx"),
    ],
    ids=" ".join,
)
def test_arguments_that_mean_nothing_are_refused(monkeypatch, capsys, words):
    with pytest.raises(SystemExit) as ended:
        arguments(monkeypatch, *words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_peer_that_is_named_must_be_installed(monkeypatch, capsys):
    monkeypatch.setattr("servers.NODE_MODULES", fixed.ROOT / "nowhere")
    with pytest.raises(SystemExit) as ended:
        arguments(monkeypatch, "--peers", "ws")
    assert ended.value.code == 2
    assert "ws: not installed (npm install" in capsys.readouterr().err


def test_peers_are_those_that_are_named_each_once(monkeypatch):
    monkeypatch.setattr("servers.Server.lacks", "")
    assert [each.name for each in peers_named("picows,bun,,picows")] == ["picows", "bun"]


def test_peers_that_are_not_named_are_left_out_loudly(monkeypatch, capsys):
    monkeypatch.setattr("servers.NODE_MODULES", fixed.ROOT / "nowhere")
    monkeypatch.setattr("servers.importlib.util.find_spec", lambda _: True)
    missing = {}
    left = load.installed([RAKIT_WS, PEERS["bun"], PEERS["picows"]], missing)
    assert [each.name for each in left] == ["rakit_ws", "picows"]
    assert missing.keys() == {"bun"}
    assert "NOT MEASURED: bun: not installed" in capsys.readouterr().out


def test_without_rakit_ws_nothing_is_measured(monkeypatch):
    monkeypatch.setattr("servers.importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="rakit_ws itself: not installed"):
        load.installed([RAKIT_WS], {})


def test_rounds_are_kept_with_all_their_figures():
    assert Result.from_json(result(CHANNEL, "bun", 1).as_json([])).rounds == [a_round()]
    assert set(asdict(a_round())) >= {"cpu_us", "per_s", "p50_us", "p99_us", "p999_us"}
