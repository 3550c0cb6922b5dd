"""Accuracy against what it costs: parameters or multiply–accumulates of the network, or time of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Cell, Column, shown
from analysis.configs import get, machine_of
from analysis.figures.settings import Cost, PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from analysis.runs import seconds_of
from benchmarks import style

TEACHER = "teacher"
SMALL = 6  # points, of the networks' names
MANY = 30  # lanes, that a column of a paper has no room for
MOST_UPRIGHT = 2  # names of networks: of more, those of teachers would touch
NAME = 0.7  # inches, the length of a name
NAMES = 40  # of networks that find room beside each other
STRIP = "#F0F0F0"
Lane = tuple[float, str, str]  # cost, network and row
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
    cost: float
    cell: Cell

    @property
    def network(self) -> str:
        return self.column.teacher if self.row == TEACHER else self.column.student

    @property
    def lane(self) -> Lane:
        """What it shares with the same row of other pairs."""
        return self.cost, self.network, self.row


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no cost was logged, or the times are of cohorts alone or of several machines."""
    timed = options.x == Cost.time
    points = _points_by_time(view) if timed else _points(view, options.x)
    if not points:
        raise NothingToDraw(f"these runs did not log the {options.x} of their networks (runs of this version do)")
    rows = [row for row in view.rows if any(point.row == row for point in points)]
    looks = view.looks(rows) | {TEACHER: {"color": style.GREY, "marker": "*", "markersize": 7}}
    lanes = {} if timed else _lanes(points)
    xs = [lanes.get(point.lane, point.cost) for point in points]
    figure = Figure(figsize=(style.COLUMN if len(view.columns) < 3 and len(lanes) < MANY else style.TEXT, 3))
    axis = figure.subplots()
    axis.set(xlabel=LABELS[options.x], ylabel=view.accuracy)
    for row in dict.fromkeys(point.row for point in points):
        axis.plot([], [], label=shown(row), **looks[row] | {"linestyle": ""})
    for x, point in zip(xs, points, strict=True):
        std = None if np.isnan(point.cell.std) else point.cell.std
        look = looks[point.row] | {"linestyle": "", "label": shown(point.row)}
        axis.errorbar(x, point.cell.value, yerr=std, elinewidth=0.8, **look)
    _front(axis, xs, points)
    axis.margins(x=0.12 if timed else 0.03, y=0.14)
    if timed:
        axis.set_xscale("log")
        style.plain_numbers(axis.xaxis)
    else:
        _name_strips(figure, axis, lanes)
    style.legend(figure, [axis])
    counts = [point.cell.n for point in points if point.row != TEACHER]
    columns = {point.column for point in points}
    style.note(
        figure,
        spread(counts, "mean ± sample standard deviation")
        + ("; a marker for each pair" if len(columns) > 1 else ""),
        "time and accuracy: of the runs that trained alone"
        if timed
        else "a strip for each network, all in it at one cost, the cheapest first; the axis has no scale",
        "step: nothing cheaper is better",
    )
    if timed:
        figure.draw_without_rendering()  # which settles the layout, and so what has room
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


def _lanes(points: Sequence[Point]) -> dict[Lane, float]:
    """Abscissas by network, the cheapest first, and in each by row, with a gap between networks.

    Students of one network cost the same: on a scale of costs they would hide each other. Beside many of them a
    network of one row, as a teacher, has gaps that its name needs.
    """
    strips = _strips(point.lane for point in points)
    least = sum(map(len, strips.values())) / NAMES
    lanes: dict[Lane, float] = {}
    start = 0.0
    for (cost, network), inside in strips.items():
        free = max(least - len(inside) - 1, 0)
        lanes |= {(cost, network, row): start + free / 2 + k for k, row in enumerate(inside)}
        start += len(inside) + 1 + free
    return lanes


def _strips(lanes: Iterable[Lane]) -> dict[tuple[float, str], list[str]]:
    """The rows of each network, the cheapest first."""
    strips: dict[tuple[float, str], list[str]] = {}
    for cost, network, row in dict.fromkeys(lanes):
        strips.setdefault((cost, network), []).append(row)
    return dict(sorted(strips.items()))


def _name_strips(figure: Figure, axis: Axes, lanes: Mapping[Lane, float]) -> None:
    """A strip behind each network's lanes, with its name and cost below."""
    ticks = {}
    for (cost, network), rows in _strips(lanes).items():
        first = lanes[cost, network, rows[0]]
        last = first + len(rows) - 1
        axis.axvspan(first - 0.5, last + 0.5, color=STRIP, zorder=-1)
        ticks[(first + last) / 2] = f"{network}{{}}{float(f'{cost:.3g}'):,g}"
    upright = len(ticks) <= MOST_UPRIGHT
    axis.set_xticks(list(ticks), [name.format("\n" if upright else "  ") for name in ticks.values()])
    axis.tick_params(axis="x", length=0, rotation=0 if upright else 90)
    axis.grid(visible=False, axis="x")
    if not upright:
        figure.set_figheight(figure.get_figheight() + NAME)


def _front(axis: Axes, xs: Sequence[float], points: Sequence[Point]) -> None:
    places = {(point.cost, point.cell.value): x for x, point in zip(xs, points, strict=True)}
    best = front(list(places))
    axis.step(
        [places[each] for each in best],
        [value for _, value in best],
        where="post",
        color=style.GREY,
        linewidth=0.8,
        linestyle="--",
        zorder=0,
    )


def _names(axis: Axes, points: Sequence[Point]) -> None:
    """The name of each network above the best of its points, higher where another's is in the way."""
    best: dict[str, tuple[float, float]] = {}
    for point in points:
        if point.network not in best or point.cell.value > best[point.network][1]:
            best[point.network] = (point.cost, point.cell.value)
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
