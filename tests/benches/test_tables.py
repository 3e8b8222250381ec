"""The tables of a run: what a reader must see, and where `README.md` shows it."""

from __future__ import annotations

import re

import fixed
import pytest
from fixed import comparison, growing, result, row_of
from rich.console import Console

import tables
from effort import Effort

SECTIONS = [
    "What is asked",
    "The full table",
    "Rate",
    "Curves",
    "Latency",
    "Decoder",
    "Memory",
    "What we lose",
    "Not measured",
]


def section(text, title):
    """Return what stands under a heading that begins with a title."""
    return re.search(
        rf"^#### {title}[^\n]*\n\n(.*?)(?=\n\n####|\n\Z)", text, re.DOTALL | re.MULTILINE
    )[1]


def rows(text):
    """Return the cells of all tables in a text, headings and rules not."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {place for place, line in enumerate(cells) if set(line) == {"---"}}
    return [
        line for place, line in enumerate(cells) if place not in rules and place + 1 not in rules
    ]


@pytest.fixture
def page():
    return tables.markdown(fixed.a_whole_run(), ["cpu.svg", "growth.svg"], "figures/")


def test_page_has_all_its_sections_in_order(page):
    found = re.findall(r"^#### (.*)$", page, re.MULTILINE)
    assert [each[: len(title)] for each, title in zip(found, SECTIONS, strict=True)] == SECTIONS


def test_every_section_of_a_run_that_measured_nothing_says_so():
    text = tables.markdown(comparison(), [])
    assert len(re.findall(r"^#### ", text, re.MULTILINE)) == len(SECTIONS)
    for title in ("The full table", "Rate", "Curves", "Latency", "Decoder", "Memory"):
        assert section(text, title) == "Not in this run."
    assert section(text, "What we lose") == "Nothing in this run."
    assert section(text, "Not measured") == "None."


def test_every_table_has_as_many_cells_in_each_line(page):
    for block in re.findall(r"(?:^\|.*\n?)+", page, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_what_is_asked_is_marked_met_missed_or_not_measured(page):
    asked = rows(section(page, "What is asked"))
    assert [
        "echo 64 B binary, 50 x 32",
        "bun",
        "≤ 0.80",
        "1.00 (0.90 .. 1.10)",
        "✗ **missed**",
    ] in (asked)
    assert [
        "echo 64 B binary, 50 x 32",
        "picows",
        "≤ 0.05",
        "0.02 (0.02 .. 0.02)",
        "✓ met",
    ] in asked
    assert ["hold 15,000", "itself", "≤ 2.0 kB", "1.50 kB", "✓ met"] in asked
    assert ["channel, 50 x 1", "bun", "≤ 1.00", "not in this run", "not measured"] in asked


def test_medians_stand_under_their_servers_and_a_failure_is_no_dash(page):
    assert rows(section(page, "The full table")) == [
        ["echo 64 B binary, 50 x 32", "1.00", "1.00", "50.00"],
        ["fan-out to 1,000 x 16", "0.50", "1.00", "5.00"],
        ["hold 2,000", "24.00", "20.00", "failed"],
        ["hold 15,000", "20.00", "20.00", "90.00"],
    ]


def test_server_that_was_not_in_a_row_is_a_dash():
    run = comparison(
        rows=[
            row_of(fixed.ECHO, rakit_ws=(1,), bun=(2,)),
            row_of(fixed.FANOUT, rakit_ws=(1,), ws=(3,)),
        ]
    )
    assert rows(section(tables.markdown(run, []), "The full table")) == [
        ["echo 64 B binary, 50 x 32", "1.00", "2.00", "-"],
        ["fan-out to 1,000 x 16", "1.00", "-", "3.00"],
    ]


def test_rate_that_the_generator_bounded_has_a_star():
    own = result(fixed.ECHO.scenario, "rakit_ws", 1, generator_busy=1.0, server_busy=0.5)
    text = tables.markdown(comparison(rows=[[own]]), [])
    assert rows(section(text, "Rate")) == [["echo 64 B binary, 50 x 32", "*1,000"]]


def test_curve_shows_each_size_and_the_growth(page):
    assert rows(section(page, "Curves")) == [
        ["rakit_ws", "1.00", "1.10", "1.50", "1.50"],
        ["bun", "1.00", "1.00", "1.00", "1.00"],
    ]
    assert "| server | 100 | 1,000 | 10,000 | last : first |" in page


def test_failed_point_of_a_curve_is_shown_as_such():
    points = growing(fixed.SUBSCRIBERS, rakit_ws=(1, 2, 3), bun=(1, 1, 1))
    points[10_000][1].fault = "went away"
    cells = list(tables.curve_cells(points))
    assert cells == [
        ["rakit_ws", "1.00", "2.00", "3.00", "3.00"],
        ["bun", "1.00", "1.00", "failed", "-"],
    ]


def test_latency_has_a_line_for_each_server_and_load(page):
    latency = rows(section(page, "Latency"))
    assert [line[:2] for line in latency] == [
        [server, load] for server in ("rakit_ws", "bun") for load in ("10%", "50%", "90%")
    ]
    assert [line[4] for line in latency[:3]] == ["10", "50", "90"]


def test_memory_is_of_those_that_hold_and_names_what_is_asked(page):
    assert rows(section(page, "Memory")) == [
        ["hold 2,000", "1.50", "1.50", "failed"],
        ["hold 15,000", "1.50", "1.50", "1.50"],
        ["asked of rakit_ws", "2.0 at 15,000", "", ""],
    ]


def test_losses_failures_and_absent_peers_are_listed(page):
    assert len(section(page, "What we lose").splitlines()) == 4
    assert section(page, "Not measured") == "- ws: no node here\n- hold 2,000: picows: went away"


def test_heading_counts_what_is_met_and_says_how_long_was_measured(page):
    assert "Of 30 things that are asked 5 are met, 3 missed, 22 not measured." in page
    assert "load average before: 0.2. 3 rounds of 3 s. bun 1.0, picows 1.0, rakit_ws 1.0." in page
    assert "#### What is asked, and what was measured (3 rounds of 3 s)" in page
    assert "Stopped" not in page


def test_heading_of_a_shorter_run_says_that_it_is_shorter():
    text = tables.markdown(comparison(effort=Effort(1, 0.3, 0.7)), [])
    assert "1 round of 0.7 s, where a full run has 3 rounds of 3 s." in text
    assert "#### What is asked, and what was measured (1 round of 0.7 s)" in text


def test_heading_of_a_run_that_was_stopped_says_so():
    assert "**Stopped before its end.**" in tables.markdown(comparison(finished=False), [])


def test_cell_cannot_end_its_column():
    assert tables.table(["a", "b"], [["x|y", "z"]]).splitlines()[-1] == "| x\\|y | z |"


def test_plots_stand_in_their_sections(page):
    assert "![cpu](figures/cpu.svg)" in section(page, "The full table")
    assert "![growth](figures/growth.svg)" in section(page, "Curves")
    assert "rate.svg" not in page


# --- README.md --------------------------------------------------------------------------------


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "page" / "README.md"
    path.parent.mkdir()
    path.write_text(f"before\n\n{tables.BEGIN}\nold\n{tables.END}\n\nafter\n", "utf-8")
    return path


def put(readme, tmp_path):
    results = tmp_path / "results"
    results.mkdir(exist_ok=True)
    (results / "cpu.svg").write_text("<svg/>")
    tables.put_into_readme(fixed.a_whole_run(), ["cpu.svg"], results, readme)


def test_readme_gets_the_tables_between_its_marks_and_keeps_the_rest(readme, tmp_path):
    put(readme, tmp_path)
    text = readme.read_text("utf-8")
    assert text.startswith(f"before\n\n{tables.BEGIN}\n### Beside the best")
    assert text.endswith(f"\n{tables.END}\n\nafter\n")
    assert "old" not in text.split(tables.BEGIN)[1].split("###")[0]
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1


def test_readme_is_the_same_when_it_is_written_again(readme, tmp_path):
    put(readme, tmp_path)
    once = readme.read_bytes()
    put(readme, tmp_path)
    assert readme.read_bytes() == once


def test_plots_of_the_readme_are_beside_it(readme, tmp_path):
    put(readme, tmp_path)
    targets = re.findall(r"!\[.*?\]\((.*?)\)", readme.read_text("utf-8"))
    assert targets == ["figures/cpu.svg"]
    assert (readme.parent / "figures" / "cpu.svg").read_text() == "<svg/>"


@pytest.mark.parametrize("text", ["nothing", f"{tables.BEGIN}\n", f"{tables.END}\n"])
def test_readme_without_marks_is_refused_and_left_as_it_is(readme, tmp_path, text):
    readme.write_text(text, "utf-8")
    with pytest.raises(SystemExit, match="lacks"):
        put(readme, tmp_path)
    assert readme.read_text("utf-8") == text


def test_readme_of_the_benches_has_the_marks():
    text = tables.README.read_text("utf-8")
    assert text.index(tables.BEGIN) < text.index(tables.END)


# --- A terminal -------------------------------------------------------------------------------


def printed(table):
    console = Console(width=200, record=True, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_row_shows_ratios_and_what_came_of_them():
    run = fixed.a_whole_run()
    name = fixed.ECHO.scenario.name
    text = printed(tables.row(run, fixed.ECHO, run.rows[name]))
    assert re.search(r"^ bun .* 1\.00 \(0\.90 \.\. 1\.10\) *$", text, re.MULTILINE)
    assert f"MISSED: {name}, beside bun: 1.00 (0.90 .. 1.10), asked ≤ 0.80" in text
    assert f"met: {name}, beside picows: 0.02 (0.02 .. 0.02), asked ≤ 0.05" in text


def test_row_of_a_peer_that_failed_shows_the_others():
    results = row_of(fixed.ECHO, rakit_ws=(1, 1), bun="went away", picows=(50, 50))
    text = printed(tables.row(comparison(rows=[results]), fixed.ECHO, results))
    assert re.search(r"^ picows .* 0\.02 *$", text, re.MULTILINE)
    assert "NOT MEASURED: echo 64 B binary, 50 x 32, beside bun: bun failed: went away" in text


def test_row_in_which_rakit_ws_failed_shows_its_peers_without_ratios():
    results = row_of(fixed.FANOUT, rakit_ws="crashed", bun=(1, 1))
    text = printed(tables.row(comparison(rows=[results]), fixed.FANOUT, results))
    assert "deliveries/s" in text
    assert re.search(r"^ bun +1,000 +1\.00 ", text, re.MULTILINE)
    assert "MISSED: fan-out to 1,000 x 16, beside bun: rakit_ws failed: crashed" in text
