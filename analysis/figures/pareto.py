"""Accuracy against what it costs: parameters or multiply–accumulates of the network, or time of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.cells import Cell, Column
from analysis.figures.settings import Cost, PlotConfig
from analysis.figures.view import NothingToDraw, View, shown, spread
from analysis.runs import get, seconds_of

TEACHER = "teacher"
SMALL = 6  # points, of the networks' names
LABELS = {
    Cost.parameters: "parameters, millions",
    Cost.macs: "multiply–accumulates of an image, millions",
    Cost.time: "training and its evaluations, minutes",
}


@dataclass(frozen=True)
class Point:
    """A network: `row` is the method that trained it, or `TEACHER`."""

    row: str
    column: Column
    x: float
    cell: Cell


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no cost was logged, or all times were shared by cohorts."""
    points = _points(view, options.x)
    if not points:
        raise NothingToDraw(_reason(options.x))
    rows = [row for row in view.rows if any(point.row == row for point in points)]
    looks = view.looks(rows) | {TEACHER: {"color": style.GREY, "marker": "*", "markersize": 7}}
    figure = Figure(figsize=(style.COLUMN if len(view.columns) < 3 else style.TEXT, 3))
    axis = figure.subplots()
    axis.set(xlabel=LABELS[options.x], ylabel=view.accuracy, xscale="log")
    for point, x in zip(points, _side_by_side(points), strict=True):
        error = None if np.isnan(point.cell.std) else point.cell.std
        look = looks[point.row] | {"linestyle": ""}
        axis.errorbar(x, point.cell.value, yerr=error, elinewidth=0.8, label=shown(point.row), **look)
    _front(axis, points)
    axis.margins(x=0.12, y=0.14)
    axis.autoscale_view()
    _names(axis, points)
    style.plain_numbers(axis.xaxis)
    style.legend(figure, [axis])
    counts = [point.cell.n for point in points if point.row != TEACHER]
    style.note(
        figure,
        spread(counts, "mean ± sample standard deviation"),
        "step: nothing cheaper is better; methods of equal cost stand side by side",
    )
    return figure


def _points(view: View, cost: Cost) -> list[Point]:
    points, seconds = [], seconds_of(view.runs, view.history)
    for column in view.columns:
        for row in view.rows:
            x = _cost(view, row, column, cost, seconds)
            if x is not None:
                points.append(Point(row, column, x, view.scores.cell(row, column)))
        points += _teacher(view, column, cost)
    return points


def _cost(view: View, row: str, column: Column, cost: Cost, seconds: pd.Series) -> float | None:
    ids = view.scores.ids(row, column)
    if not ids:
        return None
    if cost == Cost.time:
        alone = [run_id for run_id in ids if len(get(view.runs.loc[run_id, "config"], "cohort") or ()) == 1]
        known = seconds[alone].dropna()
        return None if known.empty else float(known.mean() / 60)
    count = get(view.config_of(row, column), "costs", "student", cost)
    return None if count is None else count / 1e6


def _teacher(view: View, column: Column, cost: Cost) -> list[Point]:
    """The teacher as a point, where its cost is known: its training is no part of these runs."""
    cell = view.scores.teacher(column)
    if cost == Cost.time or not cell.there:
        return []
    count = get(view.runs.loc[cell.runs[0], "config"], "costs", "teacher", cost)
    return [] if count is None else [Point(TEACHER, column, count / 1e6, cell)]


def _reason(cost: Cost) -> str:
    if cost == Cost.time:
        return "no run has a time of its own, not shared with others of a cohort: for times run methods one by one"
    return f"these runs did not log the {cost} of their networks (runs of this version do)"


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) those that none is at most as dear and better than, the cheapest first."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _side_by_side(points: Sequence[Point]) -> list[float]:
    """Where to draw points: those of equal cost a little beside each other, on a logarithmic axis."""
    costs = [point.x for point in points]
    distinct = np.log(sorted(set(costs)))
    width = min(0.12 * np.ptp(distinct), 0.7 * np.diff(distinct).min()) if len(distinct) > 1 else 0.02
    places = []
    for k, cost in enumerate(costs):
        equal = costs.count(cost)
        offset = costs[:k].count(cost) / (equal - 1) - 0.5 if equal > 1 else 0.0
        places.append(float(cost * np.exp(width * offset)))
    return places


def _front(axis: Axes, points: Sequence[Point]) -> None:
    xs, ys = zip(*front([(point.x, point.cell.value) for point in points]), strict=True)
    axis.step(xs, ys, where="post", color=style.GREY, linewidth=0.8, linestyle="--", zorder=0)


def _names(axis: Axes, points: Sequence[Point]) -> None:
    """The name of each network above the best of its points, higher where another's is in the way."""
    best: dict[str, tuple[float, float]] = {}
    for point in points:
        name = point.column.teacher if point.row == TEACHER else point.column.student
        if name not in best or point.cell.value > best[name][1]:
            best[name] = (point.x, point.cell.value)
    taken: list[tuple[float, float, float]] = []  # left, right and height of the names so far, in points
    for name, place in sorted(best.items(), key=lambda item: item[1][1]):
        x, y = axis.transData.transform(place) * 72 / axis.figure.dpi
        half = len(name) * SMALL * 0.3
        height = y + 7
        while any(
            left < x + half and x - half < right and abs(height - other) < SMALL for left, right, other in taken
        ):
            height += 1
        taken.append((x - half, x + half, height))
        axis.annotate(
            name,
            place,
            xytext=(0, height - y),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            color=style.GREY,
        )
