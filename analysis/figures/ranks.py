"""Mean ranks over pairs; methods joined by a bar are not told apart (Demšar, JMLR 7, 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import statistics
from analysis.figures.differences import wrapped
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View
from benchmarks import style
from benchmarks.words import counted

FEW = 5  # pairs, below which ranks say little
CLOSE = 15  # ranks, of more of which only every fifth has room for its number
SHORT = 12  # letters of names that leave room between them in a column


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where fewer than two methods share two pairs."""
    worth, rows, num_pairs = view.scores.worth_on_pairs(), view.scores.on_every_pair, len(view.columns)
    if len(rows) < 2 or num_pairs < 2:
        raise NothingToDraw(
            f"ranks need two methods that were run on all of two pairs: here {len(rows)} on all of {num_pairs}; "
            "pairs=[…] chooses those that more methods share"
        )
    if worth.empty:
        raise NothingToDraw(
            f"ranks need seeds in common, which these {len(rows)} methods lack; methods=[…] chooses those that "
            "share some"
        )
    test = statistics.rank_test(worth.to_numpy(), options.alpha)
    ranked = sorted(zip(test.mean_ranks, map(wrapped, rows), strict=True))
    names = [name.split("\n") for _, name in ranked]
    narrow = len(ranked) < 8 and all(len(line) <= SHORT for lines in names for line in lines)
    height = 0.16 * len(ranked) * max(map(len, names)) + 1.4
    figure = Figure(figsize=(style.COLUMN if narrow else style.TEXT, height))
    axis = figure.subplots()
    _scale(axis, len(ranked), test.critical_difference)
    bars = groups([rank for rank, _ in ranked], test.critical_difference)
    for level, (first, last) in enumerate(bars):
        y = 0.35 + 0.25 * level
        axis.plot([first - 0.04, last + 0.04], [y, y], color="black", linewidth=2.4, solid_capstyle="butt")
    _methods(axis, ranked, below=0.5 + 0.25 * len(bars))
    style.note(figure, *_notes(view, test, num_pairs, options.alpha, sorted(set(view.scores.methods) - set(rows))))
    return figure


def _notes(
    view: View, test: statistics.RankTest, num_pairs: int, alpha: float, missing: Sequence[str]
) -> list[str]:
    friedman = (
        "too few methods for Friedman's test"
        if np.isnan(test.friedman_p)
        else f"Friedman p = {test.friedman_p:.2g}"
    )
    notes = [
        f"mean ranks over {counted(num_pairs, 'pair')} of {view.accuracy.replace(', %', '')}; {friedman}",
        f"joined by a bar: not told apart at {alpha:g} (Nemenyi)",
    ]
    if num_pairs < FEW:
        notes.append("so few pairs say little of ranks")
    if missing:
        notes.append(f"not on every pair, so left out: {', '.join(missing)}")
    return notes


def groups(ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
    """First and last rank of each largest set of neighbours that differ by less than the critical difference.

    Args:
        ranks: ascending.
        difference: the critical one.
    """
    ends = [max(j for j in range(len(ranks)) if ranks[j] - ranks[i] < difference) for i in range(len(ranks))]
    spans = [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or ends[i - 1] < end)]
    return [(ranks[i], ranks[end]) for i, end in spans]


def _scale(axis: Axes, num_methods: int, difference: float) -> None:
    """The axis of ranks, 1 on the left, with the critical difference above it."""
    axis.set(xlim=(0.9, num_methods + 0.1))
    axis.spines[["left", "right", "bottom", "top"]].set_visible(False)
    axis.grid(visible=False)
    axis.set_yticks([])
    axis.set_xticks([])
    axis.plot([1, num_methods], [0, 0], color="black", linewidth=0.8)
    for rank in range(1, num_methods + 1):
        axis.plot([rank, rank], [0, -0.12], color="black", linewidth=0.8)
        if num_methods <= CLOSE or rank in (1, num_methods) or (rank % 5 == 0 and rank < num_methods - 1):
            axis.text(rank, -0.2, str(rank), ha="center", va="bottom", fontsize=7)
    wide = min(difference, num_methods - 1)
    axis.annotate(
        "",
        (1, -0.75),
        (1 + wide, -0.75),
        arrowprops={"arrowstyle": "|-|", "lw": 0.8, "mutation_scale": 3, "shrinkA": 0, "shrinkB": 0},
    )
    more = " (beyond the scale)" if difference > wide else ""
    axis.text(
        1 + wide / 2, -0.82, f"critical difference {difference:.2f}{more}", ha="center", va="bottom", fontsize=6.5
    )


def _methods(axis: Axes, ranked: Sequence[tuple[float, str]], below: float) -> None:
    """Names below the bars, the better half on the left, the others on the right, each led to its rank."""
    half = (len(ranked) + 1) // 2
    left = [(rank, name, 0.9, "right", below + 0.5 * k) for k, (rank, name) in enumerate(ranked[:half])]
    right = [
        (rank, name, len(ranked) + 0.1, "left", below + 0.5 * k)
        for k, (rank, name) in enumerate(reversed(ranked[half:]))
    ]
    for rank, name, edge, side, y in left + right:
        axis.plot([rank, rank, edge], [0, y, y], color="black", linewidth=0.7)
        gap = -0.05 if side == "right" else 0.05
        axis.text(
            edge + gap,
            y,
            f"{name}  {rank:.2f}" if side == "right" else f"{rank:.2f}  {name}",
            ha=side,
            va="center",
            fontsize=7,
        )
    axis.set_ylim(below + 0.5 * half, -1.3)
