"""Block sizes and accuracy where all else is equal: a list, and each stage's sizes averaged over all others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Cell, Column
from analysis.configs import get
from analysis.figures.alike import alike, check_versions
from analysis.figures.differences import wrapped
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View, spread
from benchmarks import style
from benchmarks.errors import UserError


@dataclass(frozen=True)
class Setting:
    """Block sizes of all matched stages, and what was measured with them in a row of the view."""

    row: str
    sizes: tuple[int, ...]
    cell: Cell


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no method was run with several block sizes and otherwise the same settings.

    Also where its file was changed between these runs.
    """
    method = options.method or _method(view)
    found = {column.name: settings(view, method, column) for column in view.columns}
    columns = [column for column in view.columns if len(found[column.name]) > 1]
    if not columns:
        raise NothingToDraw(
            "no method was run on a pair with several block sizes and otherwise the same settings, as by\n"
            "  benchmarks.run 'methods=[aftkd,{name: aftkd, label: blocks 2, block_size: [2,2,2]}]' …"
        )
    drawn = [(setting.row, column) for column in columns for setting in found[column.name]]
    check_versions(view, method, drawn)
    lines = [0.17 * len(found[column.name]) + 0.9 for column in columns]
    figure = Figure(figsize=(style.TEXT, sum(lines) + 0.3))
    grid = figure.subplots(len(columns), 2, squeeze=False, height_ratios=lines, width_ratios=[1, 1.25])
    for (left, right), column in zip(grid, columns, strict=True):
        _list(left, found[column.name], view.accuracy)
        _stages(right, found[column.name], view.accuracy)
        left.set_title(f"{wrapped(column.name)}: block sizes by stage")
        right.set_title("mean over the settings with a stage's size")
    counts = [setting.cell.n for column in columns for setting in found[column.name]]
    why = "as they differ in more than block sizes, or in nothing"
    others = view.not_drawn(set(drawn), view.rows_of(method), why)
    style.note(figure, f"{method}: " + spread(counts, "mean ± sample standard deviation"), *others)
    return figure


def _method(view: View) -> str:
    methods = {method for row, method in view.scores.rows.items() if _has_blocks(view, row)}
    if len(methods) > 1:
        raise UserError(f"several methods have blocks: choose method=, one of {', '.join(sorted(methods))}")
    return methods.pop() if methods else ""


def _has_blocks(view: View, row: str) -> bool:
    """Whether a row has block sizes on the first pair that it was run on."""
    column = next(column for column in view.columns if view.runs_of(row, column))
    return bool(get(view.config_of(row, column), "method", "block_size"))


def settings(view: View, method: str, column: Column) -> list[Setting]:
    """Settings that differ in their block sizes alone, the best first."""
    rows = alike(view, method, column, "block_size")
    found = [Setting(row, tuple(json.loads(sizes)), view.scores.cell(row, column)) for sizes, row in rows.items()]
    return sorted((each for each in found if each.sizes), key=lambda setting: -setting.cell.value)


def _list(axis: Axes, found: Sequence[Setting], label: str) -> None:
    """Each setting with its spread."""
    for y, setting in enumerate(reversed(found)):
        spread_of = 0 if np.isnan(setting.cell.std) else setting.cell.std
        axis.errorbar(setting.cell.value, y, xerr=spread_of, color=style.PALETTE[0], marker="o", elinewidth=1)
    axis.set(yticks=range(len(found)), ylim=(-0.6, len(found) - 0.4), xlabel=label)
    axis.set_yticklabels([" · ".join(map(str, setting.sizes)) for setting in reversed(found)])
    axis.grid(visible=False, axis="y")


def _stages(axis: Axes, found: Sequence[Setting], label: str) -> None:
    """A heat map of stage by block size: the mean of all settings with that size there, and how many they are."""
    sizes = sorted({size for setting in found for size in setting.sizes})
    num_stages = max(len(setting.sizes) for setting in found)
    means, counts = by_stage(found, num_stages, sizes)
    image = axis.imshow(means, cmap=style.HEAT, aspect="auto")
    low, high = np.nanmin(means), np.nanmax(means)
    for stage, size in np.argwhere(counts > 0):
        dark = high == low or (means[stage, size] - low) / (high - low) < 0.6
        text = f"{means[stage, size]:.2f}\n({counts[stage, size]})"
        axis.text(size, stage, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")
    axis.set(
        xticks=range(len(sizes)),
        yticks=range(num_stages),
        xlabel="block size (in brackets: settings)",
        ylabel="stage",
    )
    axis.set_xticklabels(map(str, sizes))
    axis.set_yticklabels(str(stage + 1) for stage in range(num_stages))
    axis.grid(visible=False)
    axis.figure.colorbar(image, ax=axis, label=label, pad=0.02)


def by_stage(found: Sequence[Setting], num_stages: int, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracy `[stages, sizes]`, NaN where no setting has that size, and the number of settings behind it."""
    means, counts = np.full((num_stages, len(sizes)), np.nan), np.zeros((num_stages, len(sizes)), dtype=int)
    for stage in range(num_stages):
        for place, size in enumerate(sizes):
            values = [each.cell.value for each in found if stage < len(each.sizes) and each.sizes[stage] == size]
            if values:
                means[stage, place], counts[stage, place] = np.mean(values), len(values)
    return means, counts
