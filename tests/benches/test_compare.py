"""`compare.py`: what is measured is kept and shown, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import sys
from types import SimpleNamespace

import fixed
import pytest
from fixed import a_round, comparison

import compare
import plan
import targets
from comparison import Comparison
from effort import FULL, Effort
from load import Bench, RunError
from servers import PEERS, RAKIT_WS

SERVERS = [RAKIT_WS, PEERS["bun"], PEERS["picows"]]
SHORT = Effort(rounds=2, warmup_s=0.1, seconds=0.5)


class Fake(Bench):
    """A bench whose rounds take no time; `happens` may raise in one, and sees all."""

    def run(self, scenario, server, show):
        show("measuring")
        self.happens(scenario.name, server.name)
        return a_round()


def fake(happens=lambda *_: None):
    bench = Fake(fixed.ROOT / "generator", SHORT)
    object.__setattr__(bench, "happens", happens)
    return bench


def raising(error, *, scenario, server):
    def happens(*names):
        if names == (scenario.name, server):
            raise error

    return happens


def planned(**changed):
    usual = {
        "servers": SERVERS,
        "rows": [fixed.ECHO, fixed.FANOUT, fixed.HANDSHAKE],
        "curves": [fixed.SUBSCRIBERS],
        "loads": (0.1, 0.9),
        "decodes": False,
    }
    return plan.Plan(**{**usual, **changed})


@pytest.fixture
def begun():
    return comparison(finished=False, effort=SHORT, versions={each.name: {} for each in SERVERS})


@pytest.fixture
def go(begun, tmp_path, monkeypatch):
    """Measure a plan, as `main` does once it is made; return the exit code."""
    monkeypatch.setattr(compare.signal, "signal", lambda *_: None)
    monkeypatch.setattr(compare.plots, "draw", lambda *_: [])  # It takes its time.

    def run(happens=lambda *_: None, **changed):
        arguments = SimpleNamespace(output=tmp_path, readme=False, quick=True)
        return compare.compare(fake(happens), planned(**changed), begun, arguments)

    return run


# --- A whole run ------------------------------------------------------------------------------


def test_whole_run_ends_with_0_and_writes_all_of_it(go, begun, tmp_path):
    assert go() == 0
    kept = Comparison.kept(tmp_path)
    assert kept == begun
    assert kept.finished
    assert list(kept.rows) == [each.scenario.name for each in planned().rows]
    assert list(kept.curves["subscribers"]) == [100, 1_000, 10_000]
    assert list(kept.latency) == ["rakit_ws", "bun", "picows"]
    assert (tmp_path / "results.md").read_text("utf-8").startswith("### Beside the best")


def test_targets_that_are_missed_do_not_change_the_exit_code(go, begun):
    assert go() == 0  # All cost the same: each share of a peer is missed.
    assert [each.met for each in compare.tables.verdicts.of_row(begun, fixed.ECHO)] == [False] * 2


def test_only_servers_that_have_it_take_part_in_a_row(go, begun):
    [deflated] = [row for row in targets.ROWS if "1,000 x 1, permessage" in row.scenario.name]
    go(rows=[deflated], curves=[], loads=())
    [results] = begun.rows.values()
    assert [each.server for each in results] == ["rakit_ws", "bun"]


def test_load_of_the_latency_is_a_share_of_each_servers_own_capacity(go, begun):
    go(rows=[], curves=[])
    names = {each.scenario.name for loads in begun.latency.values() for each in loads.values()}
    assert names == {"channel, 50 x 1 at 100/s", "channel, 50 x 1 at 900/s"}


def test_bar_ends_where_the_plan_does(begun):
    ended = []
    compare.run(fake(), planned(), begun, lambda what: ended.append(not what), lambda: None)
    assert sum(ended) == planned().steps(SHORT.rounds)


# --- What goes wrong --------------------------------------------------------------------------


def test_peer_that_fails_in_a_scenario_ends_with_1_and_spoils_nothing_else(go, begun, tmp_path):
    error = RunError("went away\nits last words")
    assert go(raising(error, scenario=fixed.FANOUT.scenario, server="bun")) == 1
    assert begun.failed == {"fan-out to 1,000 x 16: bun": "went away\nits last words"}
    kept = Comparison.kept(tmp_path)
    assert [len(each.rounds) for each in kept.rows[fixed.FANOUT.scenario.name]] == [2, 0, 2]
    assert not any(each.fault for each in kept.rows[fixed.HANDSHAKE.scenario.name])
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "- fan-out to 1,000 x 16: bun: went away\n" in page


def test_server_without_capacity_has_no_latency(go, begun):
    assert go(raising(RunError("no"), scenario=targets.LATENCY, server="picows")) == 1
    assert list(begun.latency) == ["rakit_ws", "bun"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(compare.TERMINATED)])
def test_run_that_is_stopped_shows_what_it_has_measured(go, tmp_path, error):
    happens = raising(error, scenario=fixed.HANDSHAKE.scenario, server="picows")
    if isinstance(error, SystemExit):
        with pytest.raises(SystemExit) as ended:
            go(happens)
        assert ended.value.code == 128 + signal.SIGTERM
    else:
        assert go(happens) == 128 + signal.SIGINT
    kept = Comparison.kept(tmp_path)
    assert not kept.finished
    assert list(kept.rows) == [fixed.ECHO.scenario.name, fixed.FANOUT.scenario.name]
    page = (tmp_path / "results.md").read_text("utf-8")
    assert "**Stopped before its end.**" in page
    assert "| fan-out to 1,000 x 16 | bun | ≤ 0.85 | 1.00 | ✗ **missed** |" in page


def test_figures_are_there_after_each_scenario(go, tmp_path):
    seen = []

    def happens(scenario, server):
        if (tmp_path / "results.json").exists():
            kept = Comparison.kept(tmp_path)
            assert not kept.finished
            seen.append((scenario, len(kept.rows)))

    go(happens, rows=[fixed.ECHO, fixed.FANOUT], curves=[], loads=())
    assert dict(seen) == {fixed.FANOUT.scenario.name: 1}


def test_mistake_of_the_bench_itself_loses_nothing(go, tmp_path):
    with pytest.raises(KeyError):
        go(raising(KeyError("count"), scenario=fixed.FANOUT.scenario, server="bun"))
    assert list(Comparison.kept(tmp_path).rows) == [fixed.ECHO.scenario.name]


# --- Going on ---------------------------------------------------------------------------------


def test_rest_of_a_run_is_what_was_not_measured(go, begun):
    go(raising(KeyboardInterrupt(), scenario=fixed.FANOUT.scenario, server="bun"))
    left = planned().without(begun)
    assert [row.scenario.name for row in left.rows] == ["fan-out to 1,000 x 16", "hold 2,000"]
    assert (left.curves, left.loads) == (planned().curves, planned().loads)


def test_rest_of_a_run_has_the_points_and_the_rows_that_failed(go, begun):
    middle = fixed.SUBSCRIBERS.points[1][1]

    def happens(*names):
        if names in [(middle.name, "picows"), (fixed.ECHO.scenario.name, "bun")]:
            raise RunError("went away")

    go(happens)
    left = planned().without(begun)
    assert [row.scenario.name for row in left.rows] == [fixed.ECHO.scenario.name]
    assert [size for curve in left.curves for size, _ in curve.points] == [1_000]
    assert left.loads == ()


def test_nothing_is_left_of_a_run_that_was_whole(go, begun):
    go()
    left = planned().without(begun)
    assert (left.rows, left.curves, left.loads) == ([], [], ())
    assert left.steps(SHORT.rounds) == 0


def test_run_goes_on_where_it_ended(go, begun, tmp_path):
    go(raising(RunError("no"), scenario=fixed.SUBSCRIBERS.points[0][1], server="bun"))
    again = compare.resumed(comparison(effort=SHORT, versions=begun.versions), tmp_path)
    assert (again.finished, again.failed) == (False, {})
    arguments = SimpleNamespace(output=tmp_path, readme=False, quick=True)
    assert compare.compare(fake(), planned().without(again), again, arguments) == 0
    kept = Comparison.kept(tmp_path)
    assert kept.finished
    assert list(kept.curves["subscribers"]) == [100, 1_000, 10_000]
    assert list(kept.rows) == list(begun.rows)


@pytest.mark.parametrize(
    "other", [{"commit": "fedcba9"}, {"effort": FULL}, {"versions": {"rakit_ws": {"x": "2"}}}]
)
def test_run_of_something_else_is_not_gone_on_with(begun, tmp_path, other):
    begun.keep(tmp_path)
    now = {"effort": SHORT, "versions": begun.versions, **other}
    with pytest.raises(SystemExit, match="another commit, other versions"):
        compare.resumed(comparison(**now), tmp_path)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"effort": 1}'])
def test_file_that_is_no_run_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(SystemExit, match="no run to be read in"):
        compare.kept(tmp_path)


# --- What is kept -----------------------------------------------------------------------------


def test_run_survives_json():
    run = fixed.a_whole_run()
    assert Comparison.from_json(json.loads(json.dumps(run.as_json()))) == run


def test_file_is_replaced_and_never_half_written(tmp_path, monkeypatch):
    run = fixed.a_whole_run()
    run.keep(tmp_path)
    run.commit = "fedcba9"
    monkeypatch.setattr(type(tmp_path), "replace", lambda *_: None)
    run.keep(tmp_path)  # It ends just before the new file takes the place of the old one.
    assert Comparison.kept(tmp_path).commit == "0123456"


def test_server_that_failed_has_no_ratios_and_is_nobodys():
    written = fixed.a_whole_run().as_json()["rows"]["hold 2,000"]
    own, bun, picows = written
    assert own["cpu_relative_to"].keys() == {"bun"}
    assert bun["cpu_relative_to"].keys() == {"rakit_ws"}
    assert picows["cpu_relative_to"] == {}
    assert picows["fault"] == "went away\nwhy"


# --- The command line -------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Call `main` with arguments, in an empty directory of results and with a README of its own."""
    readme = tmp_path / "README.md"
    readme.write_text(f"{compare.tables.BEGIN}\n{compare.tables.END}\n", "utf-8")
    monkeypatch.setattr(compare.tables, "README", readme)

    def call(*words):
        output = ("--output", str(tmp_path / "results"))
        monkeypatch.setattr(sys, "argv", ["compare.py", *words, *output])
        return compare.main()

    call.readme = readme
    call.results = tmp_path / "results"
    return call


def test_kept_run_can_be_put_into_the_readme_without_measuring(command):
    fixed.a_whole_run().keep(command.results)
    assert command("--render", "--readme") == 0
    text = command.readme.read_text("utf-8")
    assert "#### What we lose\n\n- echo 64 B binary" in text
    assert (command.results / "results.md").exists()


def test_run_that_was_stopped_is_not_put_into_the_readme(command, capsys):
    before = command.readme.read_bytes()
    run = fixed.a_whole_run()
    run.finished = False
    run.keep(command.results)
    assert command("--render", "--readme") == 0
    assert command.readme.read_bytes() == before
    assert "NOT in README.md" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("--parts", "tables"), ("--peers", "nginx"), ("--rounds", "0")])
def test_arguments_that_mean_nothing_end_with_2(command, capsys, words):
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 2
    assert words[1] in capsys.readouterr().err


def of_arguments(monkeypatch, *words, descriptors=100_000):
    """Return the plan that arguments make, and what is missing, where all peers are installed."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *words])
    monkeypatch.setattr("servers.Server.lacks", "")
    monkeypatch.setattr(plan, "raise_descriptor_limit", lambda: descriptors)
    missing = {}
    return plan.planned(compare.parse_arguments(), missing), missing


def test_usual_run_is_all_of_it(monkeypatch):
    whole, missing = of_arguments(monkeypatch)
    assert [each.name for each in whole.servers] == ["rakit_ws", *PEERS]
    assert list(whole.rows) == targets.ROWS
    assert list(whole.curves) == targets.CURVES
    assert whole.loads == targets.LOADS
    assert whole.decodes
    assert missing == {}


def test_quick_run_has_the_ends_of_what_is_quick(monkeypatch):
    quick, _ = of_arguments(monkeypatch, "--quick")
    assert list(quick.rows) == [row for row in targets.ROWS if row.quick]
    assert [len(curve.points) for curve in quick.curves] == [2] * len(quick.curves)
    assert quick.loads == targets.QUICK_LOADS


def test_parts_and_scenarios_choose(monkeypatch):
    chosen, _ = of_arguments(monkeypatch, "--parts", "table", "--scenarios", "deflate", "--quick")
    assert len(chosen.rows) == 2
    assert (chosen.curves, chosen.loads, chosen.decodes) == ([], (), False)


def test_what_this_machine_has_no_descriptors_for_is_named(monkeypatch, capsys):
    cut, missing = of_arguments(monkeypatch, descriptors=5_000)
    assert "hold 15,000" not in [row.scenario.name for row in cut.rows]
    assert missing["hold 15,000"] == "only 5000 descriptors"
    assert missing[fixed.SUBSCRIBERS.title] == "only 5000 descriptors: cut short"
    [curve] = [each for each in cut.curves if each.key == "subscribers"]
    assert [size for size, _ in curve.points] == [100, 1_000]
    assert "NOT MEASURED: hold 15,000: only 5000 descriptors" in capsys.readouterr().out
