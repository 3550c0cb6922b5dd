"""Accuracy over the values of a setting where all else is equal: lines of settings, a panel for each pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Column, shown
from analysis.configs import settings_of
from analysis.figures.alike import alike, check_versions
from analysis.figures.differences import TITLE, wrapped
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from benchmarks import style
from methods import ALONE, unknown

FEWEST = 3  # values of a setting that nobody asked for
MOST_TICKS = 6
WIDE = 5  # times the smallest value is the largest: an axis for such is logarithmic


@dataclass(frozen=True)
class Line:
    """A method's accuracy on a pair over the values of a setting.

    Attributes:
        rows: of the view by value, which ascend.
        accuracies: of the rows, a line for each seed that all of them have.
    """

    method: str
    setting: str
    column: Column
    rows: dict[float, str]
    accuracies: pd.DataFrame


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no method was run with several values of a numeric setting, all else equal.

    Also where its file was changed between these runs.
    """
    lines = _lines(view, options)
    if not lines:
        raise NothingToDraw(_why_nothing(view, options))
    drawn = {(row, line.column) for line in lines for row in line.rows.values()}
    methods = list(dict.fromkeys(line.method for line in lines))
    for method in methods:
        check_versions(view, method, [(row, column) for row, column in drawn if view.scores.rows[row] == method])
    kinds = [(line.method, line.setting) for line in lines]
    figure, axes = style.panels([kinds.count(kind) for kind in dict.fromkeys(kinds)])
    for axis, line in zip(axes, lines, strict=True):
        _draw(axis, view, line)
    axes[0].set_ylabel(view.accuracy)
    style.legend(figure, axes)
    counts = [len(line.accuracies) for line in lines]
    ring = "; ring: the method's default" if any(_is_default(view, row) for row, _ in drawn) else ""
    rows = [row for method in methods for row in view.rows_of(method)]
    others = view.not_drawn(drawn, rows, "as they differ in something else, or in nothing")
    style.note(figure, spread(counts, "mean ± sample standard deviation") + ring, *others)
    return figure


def _is_default(view: View, row: str) -> bool:
    """Whether a row is a method by its own name and as its paper has it."""
    return row in view.scores.plain(view.scores.rows[row]) and not view.scores.unusual(row)


def _why_nothing(view: View, options: PlotConfig) -> str:
    methods = list(dict.fromkeys(view.scores.rows.values()))
    if options.method and options.method not in methods:
        return "method: " + unknown("method in these logs", options.method, methods)
    settings = sorted({setting for method in methods for setting in _settings(view, method)})
    if options.setting and options.setting not in settings:
        return "setting: " + unknown("setting in these logs", options.setting, settings)
    several = "several values" if options.setting else f"{FEWEST} values or more"
    return (
        f"no method was run on a pair with {several} of {options.setting or 'a numeric setting'} and otherwise the "
        "same settings over a common seed, as by benchmarks.run\n"
        "  'methods=[kd,{name: kd, label: T1, temperature: 1},{name: kd, label: T8, temperature: 8}]'"
    )


def _lines(view: View, options: PlotConfig) -> list[Line]:
    """What there is to draw, panels of one setting side by side."""
    methods = [each for each in dict.fromkeys(view.scores.rows.values()) if options.method in (None, each)]
    lines = [
        Line(method, setting, column, rows, view.scores.paired(list(rows.values()), column))
        for method in methods
        for setting in ([options.setting] if options.setting else _settings(view, method))
        for column in view.columns
        if len(rows := _by_value(view, method, column, setting)) >= (2 if options.setting else FEWEST)
    ]
    return [line for line in lines if not line.accuracies.empty]


def _settings(view: View, method: str) -> list[str]:
    """All settings that a method was told."""
    cells = [(row, column) for row in view.rows_of(method) for column in view.columns]
    configs = [config for cell in cells for config in view.scores.configs(*cell)]
    return sorted({setting for config in configs for setting in settings_of(config)})


def _by_value(view: View, method: str, column: Column, setting: str) -> dict[float, str]:
    """Rows that differ in a setting alone by its value, in ascending order; without those where it is no number."""
    numbers = {_number(value): row for value, row in alike(view, method, column, setting).items()}
    return dict(sorted((number, row) for number, row in numbers.items() if number is not None))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _draw(axis: Axes, view: View, line: Line) -> None:
    """A panel: the line, a ring around the method's default, and the student alone."""
    values, means = list(line.rows), line.accuracies.mean()
    spreads = np.nan_to_num(line.accuracies.std(ddof=1))
    axis.errorbar(values, means, yerr=spreads, color=style.PALETTE[0], marker="o", elinewidth=0.8)
    for (value, row), mean in zip(line.rows.items(), means, strict=True):
        if _is_default(view, row):
            axis.plot(value, mean, marker="o", markersize=9, markerfacecolor="none", color=style.PALETTE[1])
    for row in view.rows_of(ALONE):
        if view.runs_of(row, line.column):
            alone = view.scores.cell(row, line.column).value
            axis.axhline(alone, label=shown(row), **view.looks([row])[row] | {"marker": ""})
    axis.set(title=wrapped(f"{line.method}: {line.column.name}", TITLE), xlabel=line.setting)
    _scale(axis, values)


def _scale(axis: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the values are orders of size apart, with ticks at the values where these are few."""
    if min(values) > 0 and max(values) >= WIDE * min(values):
        axis.set_xscale("log")
        style.plain_numbers(axis.xaxis)
    if len(values) <= MOST_TICKS:
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.set_xticks([], minor=True)
