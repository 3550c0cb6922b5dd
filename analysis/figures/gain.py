"""Gain over the student alone, paired seed by seed: what a seed brings to both is taken out."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis import style
from analysis.cells import shown
from analysis.figures import differences
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View
from methods import unknown


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where the reference was not run, or shares no seed with any method."""
    if options.reference not in view.rows:
        raise NothingToDraw("reference: " + unknown("row in these logs", options.reference, view.rows))
    rows = [row for row in view.rows if row != options.reference]
    lines = differences.against(view, rows, options.reference)
    if not lines:
        raise NothingToDraw(
            f"no other method has a seed in common with {shown(options.reference)} on the same pair"
        )
    columns = [column for column in view.columns if column.name in lines]
    figure, axes = style.panels([len(columns)], height=0.32 * len(rows) + 0.7, sharey=True)
    for axis, column in zip(axes, columns, strict=True):
        differences.forest(axis, lines[column.name], rows, options.alpha)
        differences.seeds_of(axis, lines[column.name], rows)
        axis.set(title=column.name, xlabel="difference, points")
    style.legend(figure, axes)
    every = [line for each in lines.values() for line in each]
    style.note(figure, *differences.notes(view, shown(options.reference), every, options.alpha))
    return figure
