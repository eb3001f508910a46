"""The plots of the pages, as SVG: drawn by matplotlib, the same bytes each time, text in the page's font."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

if TYPE_CHECKING:
    from deft.evaluation.calibration import Bin, Point

OURS, BASE, LINE, SOFT = "#0b6e6e", "#98a4a8", "#dfe5e7", "#5d6b70"

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deft",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "axes.titlecolor": SOFT,
    "grid.color": LINE,
    "text.color": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}
_SIZE = (4.6, 2.8)  # inches

_MARKED = {"bins", "measured", "projected"}
_APART = 0.13  # of the height: two lines of a label

Interval = Mapping[str, float]
Scale = Literal["log", "bar", "quality"]


@dataclass(frozen=True)
class Column:
    """A panel of a plot of systems: a figure of each, with the ends of its spread where it has them.

    Attributes
    ----------
    title, scale
        What it shows, and how: on a logarithmic scale, as bars from 0, or from the least up to 1.
    values
        ``value``, and perhaps ``low`` and ``high``, of each row.
    """

    title: str
    scale: Scale
    values: Sequence[Interval]


def recall_plot(systems: Mapping[str, Mapping[int, Interval]]) -> str:
    """Draw recall@k of systems, the first of which is ours; k on a logarithmic scale."""
    with rc_context(_STYLE):
        figure, axes = _axes()
        for place, curve in reversed(list(enumerate(systems.values()))):
            depths, values = list(curve), [score["value"] for score in curve.values()]
            colour = BASE if place else OURS
            ends = [[abs(score["value"] - score[end]) for score in curve.values()] for end in ("low", "high")]
            axes.errorbar(depths, values, yerr=ends, color=colour, ecolor=colour, marker="o", ms=3, lw=1.2)
        deepest = max(max(curve) for curve in systems.values())
        labels = [(name, curve[max(curve)]["value"]) for name, curve in systems.items()]
        _label_ends(axes, deepest, labels)
        axes.set_xscale("log")
        axes.set(xlabel="k", ylim=(0, 1), xticks=sorted({k for curve in systems.values() for k in curve}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        return _svg(figure)


def reliability_plot(bins: Iterable[Bin]) -> str:
    """Draw how often answers are right over their mean confidence; the larger a dot, the more answers."""
    with rc_context(_STYLE):
        figure, axes = _axes()
        found = list(bins)
        count = sum(each.count for each in found)
        axes.plot([0, 1], [0, 1], color=BASE, ls="--", lw=1)
        axes.vlines(
            [each.confidence for each in found],
            [min(each.confidence, each.accuracy) for each in found],
            [max(each.confidence, each.accuracy) for each in found],
            color=OURS,
            alpha=0.45,
        )
        axes.scatter(
            [each.confidence for each in found],
            [each.accuracy for each in found],
            s=[8 + 300 * each.count / count for each in found],
            color=OURS,
            alpha=0.75,
            gid="bins",
        )
        axes.set(xlabel="mean confidence", ylabel="right", xlim=(0, 1), ylim=(0, 1))
        return _svg(figure)


def coverage_plot(parts: Mapping[str, Sequence[Point]]) -> str:
    """Draw precision over the share of queries that are answered, the first part as ours."""
    with rc_context(_STYLE):
        figure, axes = _axes()
        for place, curve in reversed(list(enumerate(parts.values()))):
            across, up = [point.coverage for point in curve], [point.precision for point in curve]
            axes.plot(across, up, color=BASE if place else OURS, marker="o", ms=2, lw=1.2)
        _label_ends(axes, 1.0, [(name, curve[-1].precision) for name, curve in parts.items()])
        axes.set(xlabel="coverage", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        return _svg(figure)


def systems_plot(labels: Sequence[tuple[str, bool]], columns: Sequence[Column]) -> str:
    """Draw panels side by side with a row a system; labels without figures are headings.

    Parameters
    ----------
    labels
        Text of each row, and whether it is ours; a heading has an empty figure in every column.
    columns
        The panels, with as many values as there are labels.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 0.4 + 0.19 * len(labels)), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            _draw_panel(axes, column, labels)
        panels[0].set_yticks(range(len(labels)), [text for text, _ in labels])
        panels[0].set_ylim(len(labels) - 0.4, -0.6)
        for tick, (_, ours), value in zip(
            panels[0].get_yticklabels(), labels, columns[0].values, strict=True
        ):
            tick.set_color(OURS if ours else SOFT)
            tick.set_fontweight("normal" if value else "bold")
        return _svg(figure)


def growth_plot(
    points: Sequence[tuple[float, float]], line: tuple[float, float, float] | None, label: str
) -> str:
    """Draw a quantity over size: measured points, and a line on to the size that it is projected to.

    Parameters
    ----------
    points
        Size and value of each.
    line
        Value at size 0, the projected size and the value there.
    label
        What stands at the last measured point.
    """
    with rc_context(_STYLE):
        figure, axes = _axes()
        if line is not None:
            start, far, end = line
            axes.plot([0, far], [start, end], color=BASE, ls="--", lw=1)
            axes.plot([far], [end], color=BASE, marker="o", mfc="white", gid="projected")
            text = f"{short(end)} at {far / 1e6:g} M"
            axes.annotate(text, (far, end), (0, 6), textcoords="offset points", ha="right")
        axes.plot(*zip(*points, strict=True), color=OURS, marker="o", ms=4, ls="none", gid="measured")
        axes.annotate(label, points[-1], (6, -9), textcoords="offset points", color=OURS)
        axes.set(xlabel="strings", ylim=(0, None), xlim=(0, None))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M" if value else "0")
        return _svg(figure)


def search_plot(times: Sequence[float], feasible: Sequence[bool], best: Sequence[float]) -> str:
    """Draw the trials of a search, as times the default: filled if they count, and the best so far."""
    with rc_context(_STYLE):
        figure, axes = _axes((8.0, 2.6))
        axes.axhline(1, color=BASE, ls="--", lw=1)
        axes.step(range(len(best)), best, where="post", color=OURS, alpha=0.4)
        for number, (value, counts) in enumerate(zip(times, feasible, strict=True)):
            axes.plot(number, value, "o", ms=4, mfc=OURS if counts else "white", mec=OURS if counts else BASE)
        axes.annotate(
            f"{best[-1]:.2f} times the default",
            (len(best) - 1, best[-1]),
            (6, 0),
            textcoords="offset points",
            color=OURS,
            annotation_clip=False,
        )
        axes.set(xlabel="trial", ylim=(0, None))
        return _svg(figure)


def _axes(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes: Axes = figure.subplots()
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return figure, axes


def _draw_panel(axes: Axes, column: Column, labels: Sequence[tuple[str, bool]]) -> None:
    for row, (figure, (_, ours)) in enumerate(zip(column.values, labels, strict=True)):
        if not figure:
            continue
        value, colour = figure["value"], OURS if ours else BASE
        low, high = figure.get("low", value), figure.get("high", value)
        if column.scale == "bar":
            axes.barh(row, value, height=0.5, color=colour)
        else:
            axes.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", ms=3.5, color=colour)
        text = f"{value:.4f}" if column.scale == "quality" else short(value)
        axes.annotate(text, (high, row), (4, 0), textcoords="offset points", va="center", fontsize=7)
    if column.scale == "log":
        axes.set_xscale("log")
    axes.set_title(column.title, loc="left")
    axes.tick_params(left=False, labelbottom=False, bottom=False, which="both")
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.35)


def _label_ends(axes: Axes, across: float, labels: Sequence[tuple[str, float]]) -> None:
    """Name curves at their right ends, moved apart where two would overlap."""
    least = 2.0
    for place, (name, value) in sorted(enumerate(labels), key=lambda found: -found[1][1]):
        least = min(value, least - _APART)
        axes.annotate(
            f"{name}\n{value:.3f}",
            (across, least),
            (7, 0),
            textcoords="offset points",
            va="center",
            color=SOFT if place else OURS,
            annotation_clip=False,
        )


def short(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _svg(figure: Figure) -> str:
    """Return the drawing as an element of a page."""
    stream = io.StringIO()
    about: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(stream, format="svg", metadata=about, transparent=True)
    drawing = stream.getvalue()
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    drawing = re.sub(r' xmlns(?::xlink)?="[^"]+"', "", drawing).replace("xlink:href", "href")
    used = set(re.findall(r"#([\w.-]+)", drawing))  # a page has several drawings, and an identifier once
    drawing = re.sub(
        r' id="([^"]+)"',
        lambda found: found[0] if found[1] in used else f' class="{found[1]}"' * (found[1] in _MARKED),
        drawing,
    )
    drawing = re.sub(r" font-family: [^;\"]+;", "", drawing)
    return re.sub(r' (?:width|height)="[0-9.]+pt"', "", drawing, count=2)  # as wide as its place
