"""How far a student's correlation of logits is from its teacher's, class by class (as CRD shows it, ICLR 2020).

Correlation: of two classes' logits over all evaluation images. Shown: the absolute difference of the two matrices.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from matplotlib.figure import Figure

from analysis.cells import shown
from analysis.figures.differences import LINE, wrapped
from analysis.figures.inside import Inside, insides, left_out
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View
from analysis.statistics import std
from benchmarks import style

MOST = 4


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no run wrote its arrays, or none the teacher's."""
    cells = [cell for cell in insides(view, options.seed) if cell.teacher is not None]
    if not cells:
        raise NothingToDraw(
            "none of the arrays hold a teacher's: run a method that has one with tracking.artifacts=true"
        )
    matrices = [by_seed(cell) for cell in cells]
    top = max(float(each.max()) for matrix in matrices for each in matrix.values())
    titles = [_title(view, *each) for each in zip(cells, matrices, strict=True)]
    height = 2.1 + LINE * max(title.count("\n") - 1 for title in titles)
    counts = Counter(cell.column.name for cell in cells)
    figure, axes = style.panels(list(counts.values()), height=height, most=MOST)
    for axis, title, found in zip(axes, titles, matrices, strict=True):
        image = axis.imshow(next(iter(found.values())), vmin=0, vmax=top, cmap=style.HEAT, interpolation="nearest")
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.7, label="|difference of correlations|", pad=0.02)
    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells})))
    style.note(
        figure,
        f"{_pairs_of(view)}classes by classes; matrix of each one's lowest seed ({seeds}), "
        "mean over seeds ± sample std",
        *left_out(view, cells),
    )
    return figure


def _title(view: View, cell: Inside, found: dict[int, np.ndarray]) -> str:
    where = f"\n{cell.column.name}" if len(view.columns) > 1 else ""
    return wrapped(f"{shown(cell.row)}{where}\nmean {_mean(found)}")


def _pairs_of(view: View) -> str:
    return f"{view.columns[0].name}: " if len(view.columns) == 1 else ""


def by_seed(cell: Inside) -> dict[int, np.ndarray]:
    """|corr(student) - corr(teacher)|, [K, K], of each seed."""
    assert cell.teacher is not None
    teacher = correlation(cell.teacher["teacher/logits"])
    return {seed: np.abs(correlation(arrays["student/logits"]) - teacher) for seed, arrays in cell.seeds.items()}


def correlation(logits: np.ndarray) -> np.ndarray:
    """Correlation of classes over images: [N, K] to [K, K]. A constant class correlates with none."""
    centred = logits.astype(np.float64) - logits.mean(axis=0, dtype=np.float64)
    scale = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
    return unit.T @ unit


def _mean(found: dict[int, np.ndarray]) -> str:
    means = np.array([matrix.mean() for matrix in found.values()])
    return f"{means.mean():.3f}" + (f" ± {std(means):.3f}" if len(means) > 1 else "")
