"""Loss terms over epochs, and below each what it is multiplied by: its weight times its schedule's factor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Column, shown
from analysis.figures.curves import line
from analysis.figures.differences import TITLE, wrapped
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from benchmarks import metrics, style


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no method has more than one loss term."""
    found = {(row, c.name): terms_of(view, row, c) for c in view.columns for row in view.rows}
    places = [[(row, c) for row in view.rows if len(found[row, c.name]) > 1] for c in view.columns]
    places = [group for group in places if group]
    if not places:
        raise NothingToDraw("no run here has more than one loss term; those of kd or aftkd do, say")
    looks = style.looks(list(dict.fromkeys(term for terms in found.values() for term in terms)))
    figure, axes = style.panels([len(group) for group in places], height=3.2)
    flat = [place for group in places for place in group]
    halves = [_halves(figure, axis) for axis in axes]
    for (top, bottom), (row, column) in zip(halves, flat, strict=True):
        for term in found[row, column.name]:
            for axis, metric in ((top, metrics.train_term(term)), (bottom, metrics.train_weight(term))):
                line(axis, view.over_epochs(metric, row, column), term, looks[term])
        top.set(title=f"{wrapped(shown(row))}\n{wrapped(column.name, TITLE)}", ylabel="unweighted term")
        if not any((np.asarray(each.get_ydata()) <= 0).any() for each in top.lines):  # as terms of vid can be
            top.set_yscale("log")
            style.plain_numbers(top.yaxis)
        style.whole_numbers(bottom.xaxis)
        bottom.set(xlabel="epoch", ylabel="weight")
        bottom.set_ylim(bottom=0)
    style.legend(figure, [axis for pair in halves for axis in pair])
    counts = [len(view.runs_of(*place)) for place in flat]
    style.note(figure, spread(counts, "mean of an epoch, band: ± sample standard deviation"))
    return figure


def _halves(figure: Figure, axis: Axes) -> tuple[Axes, Axes]:
    """Two axes, one above the other, in the place of one."""
    place = axis.get_subplotspec()
    assert place is not None
    grid = place.subgridspec(2, 1)
    axis.remove()
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    top.tick_params(labelbottom=False)
    return top, bottom


def terms_of(view: View, row: str, column: Column) -> list[str]:
    """The loss terms that a cell's runs logged with a weight, the common ones first."""
    prefix = metrics.train_weight("")
    terms = [name.removeprefix(prefix) for name in view.history.columns if name.startswith(prefix)]
    order = {"ce": 0, "kd": 1}
    found = [term for term in terms if not view.over_epochs(metrics.train_weight(term), row, column).empty]
    return sorted(found, key=lambda term: (order.get(term, len(order)), term))
