"""Paired differences to a reference, a line for each method: every seed, the mean and its interval."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import statistics
from analysis.cells import shown
from analysis.figures.view import View
from benchmarks import style

LINE = 0.12  # inches that a line of a row's name is high
LETTERS = 24  # in such a line: of a figure a column wide, the names then leave half to the panel
TITLE = 32  # in a line of a title above one of three panels
AMPLE = 5.0  # inches, more than any notes and legend take


@dataclass(frozen=True)
class Line:
    """A row against the reference.

    Attributes:
        row: its name.
        differences: by seed, in points.
        p: adjusted by Holm's method; NaN where there are too few seeds to test.
    """

    row: str
    differences: dict[int, float]
    p: float = np.nan

    @property
    def interval(self) -> statistics.Interval:
        """Of the mean, by Student's t."""
        return statistics.interval_t(self.values)

    @property
    def values(self) -> statistics.Array:
        return np.array(list(self.differences.values()))


def against(view: View, rows: Sequence[str], reference: str) -> dict[str, list[Line]]:
    """Every row's line in each column that has shared seeds; p adjusted over all of them."""
    found = [
        (column.name, Line(row, differences))
        for column in view.columns
        for row in rows
        if (differences := view.scores.differences(row, reference, column))
    ]
    adjusted = statistics.holm(np.array([statistics.paired_p(line.values) for _, line in found]))
    lines: dict[str, list[Line]] = {}
    for (column, line), p in zip(found, adjusted, strict=True):
        lines.setdefault(column, []).append(replace(line, p=float(p)))
    return lines


def draw(
    view: View,
    lines: Mapping[str, Sequence[Line]],
    ticks: dict[str, str],
    reference: str,
    alpha: float,
    height: float,
) -> Figure:
    """A panel for each column of `lines`, its rows named by `ticks` from the top.

    Args:
        view: of all of them.
        lines: by column.
        ticks: names by row, of one line of text or several; long lines are wrapped.
        reference: the row that the others are compared with.
        alpha: level of the test.
        height: of a row, in inches, notes and legend included; more where they leave no room for the names.
    """
    ticks = {row: wrapped(name) for row, name in ticks.items()}
    figure, axes = style.panels([len(lines)], height=height * len(ticks) + 0.7, sharey=True)
    every = [line for each in lines.values() for line in each]
    looks = style.looks(sorted({seed for line in every for seed in line.differences}))
    heights = {row: y for y, row in enumerate(reversed(ticks))}
    for axis, (column, each) in zip(axes, lines.items(), strict=True):
        _forest(axis, each, heights, alpha)
        _seeds(axis, each, heights, looks)
        axis.set(title=wrapped(column, TITLE), xlabel="difference, points", ylim=(-0.6, len(ticks) - 0.4))
        axis.set_yticks(range(len(ticks)), [ticks[row] for row in heights])
        axis.grid(visible=False, axis="y")
    style.legend(figure, axes)
    style.note(figure, *_notes(view, shown(reference), every, alpha))
    _make_room(figure, axes, max(name.count("\n") + 1 for name in ticks.values()))
    return figure


def wrapped(name: str, most: int = LETTERS) -> str:
    """A name in lines of at most so many letters; only a word that is longer is broken, on lines of its own."""
    words = (line for part in name.split("\n") for line in textwrap.wrap(part, most, break_long_words=False))
    return "\n".join(line for word in words for line in textwrap.wrap(word, most))


def _make_room(figure: Figure, axes: Sequence[Axes], num_lines: int) -> None:
    """Let the figure grow where the names of rows, of so many lines of text, would else touch.

    Notes, titles and legend take what they need of a figure, be it all; that is measured in one far too high.
    """
    planned = figure.get_figheight()
    figure.set_figheight(planned + AMPLE)
    with warnings.catch_warnings(action="ignore"):  # of missing letters, which are told when it is saved
        figure.draw_without_rendering()  # lays it out
    grid, (low, high) = axes[0].get_gridspec(), axes[0].get_ylim()
    assert grid is not None
    others = planned + AMPLE - grid.nrows * axes[0].get_window_extent().height / figure.dpi
    rows = (high - low) * LINE * (num_lines + 0.5)
    figure.set_figheight(max(planned, others + grid.nrows * rows))


def _forest(axis: Axes, lines: Sequence[Line], heights: Mapping[str, int], alpha: float) -> None:
    """Means and intervals."""
    axis.axvline(0, color="black", linewidth=0.8, zorder=1)
    for line in lines:
        y, color = heights[line.row], style.PALETTE[0]
        axis.plot(line.interval, [y, y], color=color, linewidth=1.6, solid_capstyle="butt", zorder=2)
        fill = color if line.p < alpha else "white"
        axis.plot(line.values.mean(), y, marker="D", color=color, markerfacecolor=fill, linestyle="", zorder=4)
        axis.annotate(
            f"n = {len(line.differences)}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=6,
            color=style.GREY,
            annotation_clip=False,
        )


def _seeds(
    axis: Axes, lines: Sequence[Line], heights: Mapping[str, int], looks: Mapping[int, dict[str, Any]]
) -> None:
    """Every seed by its own marker a little above the lines; one that no line has is for the legend alone."""
    for seed, look in looks.items():
        found = [line for line in lines if seed in line.differences]
        xs, ys = [line.differences[seed] for line in found], [heights[line.row] + 0.22 for line in found]
        axis.plot(xs, ys, markersize=3, zorder=3, **look | {"linestyle": "", "label": f"seed {seed}"})


def _notes(view: View, reference: str, lines: Sequence[Line], alpha: float) -> list[str]:
    """How the lines are to be read."""
    what = f"{view.accuracy.replace(', %', '')} less that of {reference}, of the same seeds"
    enough = [line for line in lines if len(line.differences) >= statistics.MIN_SEEDS]
    reasons = []
    if any(np.isnan(line.p) for line in enough):
        reasons.append("where all seeds differ by the same")
    if len(enough) < len(lines):
        reasons.append(f"below {statistics.MIN_SEEDS} seeds")
    untested = [f"{' and '.join(reasons)} neither interval nor test"] if reasons else []
    if any(np.isnan(line.interval[0]) and not np.isnan(line.p) for line in enough):
        untested.append("where no seed differs no interval")
    if not enough:
        return [what, "; ".join(["diamond: mean", *untested])]
    test = f"filled: p < {alpha:g}, adjusted over the figure (paired t test, Holm)"
    bar = (
        f"its {statistics.CONFIDENCE:.0%} t interval, not adjusted, so that it can leave out 0 beside a hollow mean"
    )
    return [what, "; ".join([f"diamond: mean, {test}", f"bar: {bar}", *untested])]
