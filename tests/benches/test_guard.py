"""`make bench-guard`: what becomes of counted instructions beside the committed ones."""

from __future__ import annotations

import json

import fixed  # noqa: F401 - the path of the benches
import pytest

import guard

RUST, PYTHON = "decode-text-64", "route"
HERE = {"rust": {"rustc": "1.90"}, "python": {"python": "3.11"}}
SAME = {"rust": True, "python": True}
COMMITTED = {work.name: 1000.0 for work in guard.WORKS}


def judge(same=SAME, committed=COMMITTED, **changed):
    """Judge figures that are the committed ones, but for some."""
    figures = {**COMMITTED, **{name.replace("_", "-"): each for name, each in changed.items()}}
    return guard.judge(figures, committed, same)


def test_figures_as_committed_are_sound():
    assert judge()


@pytest.mark.parametrize("figure", [970.0, 970.1, 1000.0, 1029.9, 1030.0])
def test_up_to_three_percent_in_either_direction_is_allowed(figure, capsys):
    assert judge(route=figure)
    assert "route" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("figure", "said"), [(1030.1, "MORE: a regression"), (969.9, "LESS: commit it")]
)
def test_beyond_three_percent_fails_and_says_in_which_direction(figure, said, capsys):
    assert not judge(route=figure)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("route ")]
    assert said in line


@pytest.mark.parametrize(("figure", "is_sound"), [(1250.0, True), (1250.1, False), (749.9, False)])
def test_a_quarter_is_allowed_where_the_tools_are_others(figure, is_sound):
    elsewhere = {"rust": True, "python": False}
    assert judge(elsewhere, route=figure) is is_sound
    assert not judge(elsewhere, decode_text_64=figure)  # Its tools are the same ones.


def test_work_without_a_committed_figure_fails(capsys):
    committed = {name: each for name, each in COMMITTED.items() if name != RUST}
    assert not judge(committed=committed)
    assert "NOT COMMITTED: --update" in capsys.readouterr().out


def test_committed_figure_without_its_work_fails(capsys):
    assert not judge(committed={**COMMITTED, "gone": 1.0})
    assert "gone: committed, but there is no such work" in capsys.readouterr().out


def test_tools_that_differ_are_named(capsys):
    there = {"rust": {"rustc": "1.88"}, "python": HERE["python"]}
    assert guard.compare_environments(HERE, there) == {"rust": False, "python": True}
    assert "rustc 1.88, here it is 1.90" in capsys.readouterr().out


def test_committed_figures_are_those_of_the_works():
    kept = json.loads(guard.FIGURES.read_text("utf-8"))
    names = [work.name for work in guard.WORKS]
    assert list(kept["instructions"]) == list(kept["unit"]) == names
    # One more or less would make the figures those of another environment, everywhere.
    assert {part: set(tools) for part, tools in kept["environment"].items()} == {
        "rust": {"rustc", "libc", "vector"},
        "python": {"python", "msgspec", "libc", "vector"},
    }


def test_one_unit_is_the_difference_between_twice_and_once(monkeypatch):
    counted = []

    def count(command):
        counted.append(command)
        return 1_000_000 + 70 * int(command[-1])  # Starting costs a million.

    monkeypatch.setattr(guard, "count", count)
    work = guard.Work("fan-out", "rust", 50, "delivery", units_each=10)
    assert guard.instructions(work, guard.BENCHES / "guard") == 7.0
    assert [command[-2:] for command in counted] == [["fan-out", "50"], ["fan-out", "100"]]


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run `guard.py` with arguments, where every work takes so many instructions."""
    file = tmp_path / "guard.json"
    monkeypatch.setattr(guard, "FIGURES", file)
    monkeypatch.setattr(guard, "build", lambda: tmp_path)
    monkeypatch.setattr(guard, "environment", lambda: HERE)
    monkeypatch.setattr(guard, "countable", lambda _: guard.WORKS)
    monkeypatch.setattr(guard.shutil, "which", lambda _: "/usr/bin/valgrind")

    def run(*arguments, instructions):
        monkeypatch.setattr(guard.sys, "argv", ["guard.py", *arguments])
        monkeypatch.setattr(guard, "instructions", lambda *_: instructions)
        return guard.main()

    run.file = file
    return run


def test_without_committed_figures_it_fails(main):
    assert main(instructions=100.0) == 1
    assert not main.file.exists()


def test_update_commits_what_was_counted(main):
    assert main("--update", instructions=100.04) == 0
    kept = json.loads(main.file.read_text("utf-8"))
    assert kept["instructions"] == {work.name: 100.0 for work in guard.WORKS}
    assert kept["environment"] == HERE
    assert main(instructions=103.0) == 0
    assert main(instructions=103.1) == 1


def test_a_run_without_update_leaves_the_committed_figures(main):
    main("--update", instructions=100.0)
    before = main.file.read_bytes()
    main(instructions=50.0)
    assert main.file.read_bytes() == before


def test_what_cannot_be_counted_here_is_left_out_and_nothing_else(main, monkeypatch):
    main("--update", instructions=100.0)
    without = [work for work in guard.WORKS if not work.needs_io_uring]
    assert without != guard.WORKS
    monkeypatch.setattr(guard, "countable", lambda _: without)
    assert main(instructions=100.0) == 0
    with pytest.raises(SystemExit, match="--update"):
        main("--update", instructions=100.0)


@pytest.mark.parametrize("there_is", ["true", "false"])
def test_work_that_needs_io_uring_is_counted_where_there_is_one(tmp_path, monkeypatch, there_is):
    monkeypatch.setattr(guard, "printed", lambda *_: there_is)
    needy = [work for work in guard.countable(tmp_path) if work.needs_io_uring]
    assert bool(needy) == (there_is == "true")
