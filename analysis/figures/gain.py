"""Gain over the student alone, paired seed by seed: what a seed brings to both is taken out."""

from __future__ import annotations

from matplotlib.figure import Figure

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
    ticks = {row: row for row in rows}
    return differences.draw(view, lines, ticks, options.reference, options.alpha, height=0.32)
