"""The plots of a run: SVG that can be read, with a series for each server."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import fixed
import pytest
from fixed import comparison, row_of

import plots

pytest.importorskip("matplotlib", reason="matplotlib draws the plots")

FILES = ["cpu.svg", "rate.svg", "growth.svg", "latency.svg"]


def texts(path):
    """Return the texts of an SVG, each as often as it is there."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def charts(monkeypatch):
    """Keep the charts that are drawn, by the names of their files."""
    drawn, save = {}, plots.save

    def keep(chart, path):
        drawn[path.name] = chart
        return save(chart, path)

    monkeypatch.setattr(plots, "save", keep)
    return drawn


@pytest.fixture
def drawn(charts, tmp_path):
    assert plots.draw(fixed.a_whole_run(), tmp_path) == FILES
    return charts


def test_every_plot_is_well_formed_and_names_its_servers(drawn, tmp_path):
    for name in FILES:
        assert {"rakit_ws", "bun"} <= set(texts(tmp_path / name)), name
    assert {"picows"} <= set(texts(tmp_path / "cpu.svg"))


def test_bars_are_a_series_for_each_server_with_its_medians(drawn):
    [axes] = drawn["cpu.svg"].axes
    bars = {
        container.get_label(): [bar.get_width() for bar in container]
        for container in axes.containers
        if hasattr(container, "patches")
    }
    assert bars == {"rakit_ws": [1, 0.5, 24, 20], "bun": [1, 1, 20, 20], "picows": [50, 5, 90]}


def test_bars_have_the_extremes_of_their_rounds(drawn):
    [axes] = drawn["cpu.svg"].axes
    own = next(each for each in axes.containers if each.get_label() == "rakit_ws")
    _, _, [lines] = own.errorbar.lines
    spans = [(start[0], end[0]) for start, end in lines.get_segments()]
    assert spans == [pytest.approx(each) for each in [(0.9, 1.1), (0.4, 0.6), (20, 26), (20, 20)]]


def test_bars_are_labelled(drawn, tmp_path):
    labels = texts(tmp_path / "cpu.svg")
    assert "server CPU, µs for a message, delivery, handshake" in labels
    assert [fixed.ECHO.scenario.name, "hold 2,000"] == [
        each for each in labels if each in (fixed.ECHO.scenario.name, "hold 2,000")
    ]
    assert "a second" in texts(tmp_path / "rate.svg")


def test_growth_has_a_line_for_each_server_and_a_point_for_each_size(drawn, tmp_path):
    [axes] = drawn["growth.svg"].axes
    lines = {
        line.get_label(): [list(map(float, each)) for each in line.get_data()]
        for line in axes.lines
    }
    sizes = [100, 1_000, 10_000]
    assert lines == {"rakit_ws": [sizes, [1, 1.1, 1.5]], "bun": [sizes, [1, 1, 1]]}
    assert {fixed.SUBSCRIBERS.name, fixed.SUBSCRIBERS.axis, "server CPU, µs"} <= set(
        texts(tmp_path / "growth.svg")
    )


def test_latency_has_a_panel_for_each_percentile(drawn, tmp_path):
    panels = drawn["latency.svg"].axes
    assert [axes.get_title() for axes in panels] == ["p50", "p99", "p99.9"]
    own, bun = panels[1].lines
    assert (own.get_label(), bun.get_label()) == ("rakit_ws", "bun")
    assert list(own.get_xdata()) == [10, 50, 90]
    assert list(own.get_ydata()) == pytest.approx([10, 50, 90])
    labels = texts(tmp_path / "latency.svg")
    assert labels.count("load, % of the server's own capacity") == 3
    assert "µs" in labels


def test_same_figures_make_the_same_file(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        plots.draw(fixed.a_whole_run(), tmp_path / name)
    for name in FILES:
        one, other = ((tmp_path / each / name).read_bytes() for each in ("one", "other"))
        assert one == other
        assert not re.search(rb"<dc:date>", one)


def test_server_that_failed_everywhere_has_no_bars(charts, tmp_path):
    run = comparison(rows=[row_of(fixed.ECHO, rakit_ws=(1, 2), bun="went away")])
    assert plots.draw(run, tmp_path) == ["cpu.svg", "rate.svg"]
    assert "bun" not in texts(tmp_path / "cpu.svg")


def test_nothing_measured_is_nothing_drawn(tmp_path):
    assert plots.draw(comparison(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_run_says_that_plots_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda _: None)
    run = fixed.a_whole_run()
    assert plots.draw(run, tmp_path) == []
    assert run.not_measured["plots"] == "matplotlib is not installed"


def test_every_peer_has_a_colour_of_its_own():
    from servers import PEERS

    assert plots.COLOURS.keys() == {"rakit_ws", *PEERS}
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)
