"""A metric over epochs: a panel for each pair, a line for each method, a band over seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Column, shown
from analysis.figures.differences import TITLE, wrapped
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from benchmarks import metrics, style
from methods import unknown

MARKED = 8  # points of a line that carry its marker
BANDS = 6  # lines of a panel whose bands can be told apart


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no run logged the metric."""
    metric = options.metric or view.top1
    lines = {(row, c.name): view.over_epochs(metric, row, c) for row in view.rows for c in view.columns}
    lines = {place: values for place, values in lines.items() if not values.empty}
    if not lines:
        logged = view.history.columns.drop(["run_id", metrics.EPOCH])
        raise NothingToDraw("metric: " + unknown("metric in these logs", metric, sorted(logged)))
    rows = [row for row in view.rows if any(row == place[0] for place in lines)]
    looks = view.looks(rows)
    figure, axes = style.panels([len(view.columns)])
    banded = len(rows) <= BANDS
    for axis, column in zip(axes, view.columns, strict=True):
        for row in rows:
            if (row, column.name) in lines:
                line(axis, lines[row, column.name], shown(row), looks[row], banded)
        if metric == view.top1:
            _teacher(axis, view, column)
        axis.set(title=wrapped(column.name, TITLE), xlabel="epoch")
        style.whole_numbers(axis.xaxis)
    axes[0].set_ylabel(f"{view.scores.split} top-1, %" if metric == view.top1 else metric)
    style.legend(figure, axes)
    counts = [values.shape[1] for values in lines.values()]
    band = "mean, band: ± sample standard deviation" if banded else f"mean, without bands beyond {BANDS} lines,"
    style.note(figure, spread(counts, band))
    return figure


def line(axis: Axes, values: pd.DataFrame, name: str, look: dict[str, Any], banded: bool = True) -> None:
    """Mean and band of a metric by epoch and seed."""
    mean, std = values.mean(axis=1).to_numpy(float), values.std(axis=1, ddof=1).to_numpy(float)  # over seeds
    epochs = values.index.to_numpy()
    axis.plot(epochs, mean, label=name, markevery=max(1, len(epochs) // MARKED), **look)
    if banded:
        axis.fill_between(epochs, mean - std, mean + std, color=look["color"], alpha=0.18, linewidth=0)


def _teacher(axis: Axes, view: View, column: Column) -> None:
    teacher = view.scores.teacher(column)
    if teacher.there:
        axis.axhline(teacher.value, color=style.GREY, linestyle=(0, (6, 2)), linewidth=0.9, label="teacher")
