"""Plots: what is drawn where, and the same each time."""

import re
from xml.etree import ElementTree as ET

import pytest

from deft.evaluation import plots
from deft.evaluation.calibration import Bin, Point


def drawn(svg):
    """The element, its texts, and the places of the marks in a group."""
    root = ET.fromstring(svg)
    texts = ["".join(text.itertext()).strip() for text in root.iter("text")]
    groups = {group.get("class"): group for group in root.iter("g")}

    def marks(name):
        return [(float(use.get("x")), float(use.get("y"))) for use in groups[name].iter("use")]

    return root, texts, marks


def interval(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def test_plots_are_the_same_each_time_and_ask_nothing_of_the_network():
    curves = {"deft": {1: interval(0.5), 8: interval(0.7)}, "other": {1: interval(0.2), 8: interval(0.3)}}
    first = plots.recall_plot(curves)
    assert first == plots.recall_plot(curves)
    assert "http" not in first
    assert not re.search(r"<(script|image)", first)
    _, texts, _ = drawn(first)
    assert {"deft", "0.700", "other", "0.300", "k", "1", "8"} <= set(texts)


def test_labels_of_close_curves_do_not_overlap():
    curves = {name: {1: interval(0.5), 8: interval(value)} for name, value in (("a", 0.5), ("b", 0.499))}
    places = re.findall(r"translate\([0-9.]+ ([0-9.]+)\)\">([ab])<", plots.recall_plot(curves))
    (first, _), (second, _) = places
    assert abs(float(first) - float(second)) > 15


def test_a_dot_a_bin_where_it_belongs():
    bins = [Bin(0.4, 0.5, 5, 0.45, 0.5), Bin(0.9, 1.0, 10, 0.95, 0.8)]
    svg = plots.reliability_plot(bins)
    dots = re.findall(r'<path d="M ([0-9.]+) ([0-9.]+)', svg[svg.index('class="bins"') :])
    (left, low), (right, high) = [tuple(map(float, dot)) for dot in dots[:2]]
    assert left < right
    assert low > high  # down the page


def test_coverage_ends_at_the_precision_of_all():
    curve = [Point(0.9, 0.2, 1.0), Point(0.0, 1.0, 0.6)]
    _, texts, _ = drawn(plots.coverage_plot({"all queries": curve}))
    assert {"all queries", "0.600"} <= set(texts)


def test_systems_stand_in_rows_with_their_figures():
    labels = [("lay terms", False), ("deft int8", True), ("loop", False)]
    columns = [
        plots.Column("Texts/s", "log", [{}, {"value": 4000, "low": 3900, "high": 4100}, {"value": 50}]),
        plots.Column("Memory", "bar", [{}, {"value": 150}, {"value": 600}]),
        plots.Column("Cosine", "quality", [{}, {"value": 0.9991}, {"value": 1.0}]),
    ]
    _, texts, _ = drawn(plots.systems_plot(labels, columns))
    assert {"lay terms", "deft int8", "loop", "4,000", "50", "150", "0.9991", "Texts/s", "Memory"} <= set(
        texts
    )


@pytest.mark.parametrize("line", [None, (2.0, 15_000_000, 47.0)])
def test_growth_marks_what_was_projected(line):
    svg = plots.growth_plot([(100_000, 2.3), (4_000_000, 14.0)], line, "14")
    _, texts, marks = drawn(svg)
    assert len(marks("measured")) == 2
    assert "14" in texts
    assert ("47 at 15 M" in texts) == ("projected" in svg) == (line is not None)


def test_a_search_shows_the_best_so_far():
    _, texts, _ = drawn(plots.search_plot([1.0, 1.4, 2.0], [True, True, False], [1.0, 1.4, 1.4]))
    assert "1.40 times the default" in texts
