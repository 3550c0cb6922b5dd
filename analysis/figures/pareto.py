"""Accuracy against what it costs: parameters or multiply–accumulates of the network, or time of its training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from analysis.cells import Cell, Column, shown
from analysis.configs import get, machine_of
from analysis.figures.settings import Cost, PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from analysis.runs import seconds_of
from benchmarks import style

TEACHER = "teacher"
SMALL = 6  # points, of the networks' names
ROOM = 7  # points, that a marker takes up
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
    """Raises NothingToDraw where no cost was logged, or the times are of cohorts alone or of several machines."""
    timed = options.x == Cost.time
    points = _points_by_time(view) if timed else _points(view, options.x)
    if not points:
        raise NothingToDraw(f"these runs did not log the {options.x} of their networks (runs of this version do)")
    rows = [row for row in view.rows if any(point.row == row for point in points)]
    looks = view.looks(rows) | {TEACHER: {"color": style.GREY, "marker": "*", "markersize": 7}}
    figure = Figure(figsize=(style.COLUMN if len(view.columns) < 3 else style.TEXT, 3))
    axis = figure.subplots()
    axis.set(xlabel=LABELS[options.x], ylabel=view.accuracy, xscale="log")
    for row in dict.fromkeys(point.row for point in points):
        axis.plot([], [], label=shown(row), **looks[row] | {"linestyle": ""})
    _limits(axis, points)
    _front(axis, points)
    style.plain_numbers(axis.xaxis)
    style.legend(figure, [axis])
    counts = [point.cell.n for point in points if point.row != TEACHER]
    columns = {point.column for point in points}
    style.note(
        figure,
        spread(counts, "mean ± sample standard deviation")
        + ("; a marker for each pair" if len(columns) > 1 else ""),
        *(["time and accuracy: of the runs that trained alone"] if timed else []),
        "step: nothing cheaper is better; where points are too near, a marker stands beside its dot",
    )
    figure.draw_without_rendering()  # which settles the layout, and so what has room
    for point, offset in zip(points, _offsets(axis, points), strict=True):
        _draw(axis, point, offset, looks[point.row])
    _names(axis, points)
    return figure


def _points(view: View, cost: Cost) -> list[Point]:
    """Students and teachers whose networks' cost is known."""
    points = []
    for column in view.columns:
        for row in view.rows:
            if view.runs_of(row, column):
                count = get(view.config_of(row, column), "costs", "student", cost)
                points += _point(row, column, count, view.scores.cell(row, column))
        teacher = view.scores.teacher(column)
        if teacher.there:
            count = get(view.runs.loc[teacher.runs[0], "config"], "costs", "teacher", cost)
            points += _point(TEACHER, column, count, teacher)
    return points


def _point(row: str, column: Column, count: float | None, cell: Cell) -> list[Point]:
    return [] if count is None else [Point(row, column, count / 1e6, cell)]


def _points_by_time(view: View) -> list[Point]:
    """Students without their teachers, whose training is no part of these runs: time and accuracy of the same runs.

    Raises:
        NothingToDraw: no run trained alone, or these did so on several machines.
    """
    minutes = seconds_of(view.runs, view.history) / 60
    alone = view.runs["config"].map(lambda config: len(get(config, "cohort") or ()) == 1)
    ids = view.cells["run_id"]
    part = replace(view, cells=view.cells[ids.map(alone) & ids.map(minutes).notna()])
    if part.cells.empty:
        raise NothingToDraw(
            "no run here has a time of its own (a cohort shares one): to compare times, run methods one by one"
        )
    if len(machines := {machine_of(view.runs.loc[run_id, "config"]) for run_id in part.cells["run_id"]}) > 1:
        raise NothingToDraw(f"times of several machines do not compare: {'; '.join(sorted(machines))}")
    return [
        Point(row, column, float(minutes[list(part.scores.ids(row, column))].mean()), part.scores.cell(row, column))
        for column in part.columns
        for row in part.rows
        if part.runs_of(row, column)
    ]


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (cost, accuracy): the points better than all cheaper ones, the cheapest first."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _limits(axis: Axes, points: Sequence[Point]) -> None:
    """Let the axes hold all points, and leave their limits so."""
    low, high = ([point.cell.value + sign * np.nan_to_num(point.cell.std) for point in points] for sign in (-1, 1))
    axis.update_datalim([(point.x, y) for point, *ys in zip(points, low, high, strict=True) for y in ys])
    axis.margins(x=0.12, y=0.14)
    axis.autoscale_view()
    axis.autoscale(enable=False)


def _offsets(axis: Axes, points: Sequence[Point]) -> list[float]:
    """How far beside its place each point's marker is drawn, in points of print: as little as keeps all apart."""
    taken: list[tuple[float, float, float]] = []  # abscissa, lower and upper end of the markers so far
    offsets: list[float] = []
    center = axis.transAxes.transform((0.5, 0.5))[0] * 72 / axis.figure.dpi
    for point in points:
        x, low, high = _extent(axis, point)
        inwards = ROOM if x < center else -ROOM
        steps = itertools.count(x, inwards)
        place = next(
            step
            for step in steps
            if not any(abs(step - other) < ROOM and low < top and bottom < high for other, bottom, top in taken)
        )
        taken.append((place, low, high))
        offsets.append(place - x)
    return offsets


def _extent(axis: Axes, point: Point) -> tuple[float, float, float]:
    """Abscissa, lower and upper end of a point's marker with its deviation, in points of print."""
    std = np.nan_to_num(point.cell.std)
    ends = [(point.x, point.cell.value + sign * std) for sign in (-1, 0, 1)]
    (_, low), (x, y), (_, high) = axis.transData.transform(ends) * 72 / axis.figure.dpi
    return float(x), float(min(low, y - ROOM / 2)), float(max(high, y + ROOM / 2))


def _draw(axis: Axes, point: Point, offset: float, look: dict[str, Any]) -> None:
    """A marker with the deviation; where it is moved aside, a line leads to it from a dot at the point's place."""
    x, y = point.x, point.cell.value
    beside = offset_copy(axis.transData, axis.get_figure(root=True), x=offset, units="points")
    if offset:
        axis.plot(x, y, marker=".", markersize=2, color="black", zorder=3)
        axis.annotate(
            "",
            (x, y),
            xytext=(offset, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": style.GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
            zorder=1,
        )
    look = look | {"linestyle": "", "transform": beside, "label": shown(point.row)}
    axis.errorbar(x, y, yerr=None if np.isnan(point.cell.std) else point.cell.std, elinewidth=0.8, **look)


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
