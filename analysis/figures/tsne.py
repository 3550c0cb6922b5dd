"""Embeddings of evaluation images in the plane by t-SNE (van der Maaten & Hinton, JMLR 9, 2008)."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from analysis.artifacts import Arrays
from analysis.cells import shown
from analysis.figures.differences import wrapped
from analysis.figures.inside import Inside, insides, left_out
from analysis.figures.settings import PlotConfig
from analysis.figures.view import View
from benchmarks import style

PERPLEXITY = 30
MOST = 4  # panels beside each other


@dataclass(frozen=True)
class Panel:
    """Embeddings [M, D] of images with their labels [M]."""

    title: str
    embedding: np.ndarray
    targets: np.ndarray


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no run wrote its arrays."""
    cells = insides(view, options.seed)
    groups = [list(group) for _, group in itertools.groupby(cells, key=lambda cell: cell.column.name)]
    panels = [_panels(group, options.classes, several=len(view.columns) > 1) for group in groups]
    figure, axes = style.panels([len(group) for group in panels], height=1.9, most=MOST)
    for place, (axis, panel) in enumerate(zip(axes, itertools.chain(*panels), strict=True), 1):
        where = panel.title.replace("\n", ", ")
        print(f"    t-SNE {place}/{len(axes)}  {where}", file=sys.stderr)  # it can take a minute
        _scatter(axis, plane(panel.embedding), panel.targets)
        axis.set_title(wrapped(panel.title))
    style.legend(figure, axes)
    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells})))
    targets = panels[0][0].targets
    images = f"{len(targets)} evaluation images of {len(np.unique(targets))} classes"
    little = f"{images}, seed {seeds}; the distances between clusters mean little in t-SNE"
    style.note(figure, little, *left_out(view, cells))
    return figure


def _panels(cells: list[Inside], num_classes: int, several: bool) -> list[Panel]:
    """The teacher of a column and its students."""
    where = f"\n{cells[0].column.name}" if several else ""
    teacher = next((cell.teacher for cell in cells if cell.teacher is not None), None)
    first = [] if teacher is None else [_panel(f"teacher{where}", teacher, "teacher", num_classes)]
    return [*first, *(_panel(shown(cell.row) + where, cell.arrays, "student", num_classes) for cell in cells)]


def _panel(title: str, arrays: Arrays, role: str, num_classes: int) -> Panel:
    """The images of the first classes."""
    targets = arrays["targets"][arrays["embedded"]]
    inside = np.isin(targets, np.unique(targets)[:num_classes])
    return Panel(title, arrays[f"{role}/embedding"][inside], targets[inside])


def plane(embedding: np.ndarray) -> np.ndarray:
    """[M, D] to [M, 2], the same each time."""
    from sklearn.manifold import TSNE  # takes a second

    tsne = TSNE(perplexity=min(PERPLEXITY, (len(embedding) - 1) / 3), init="pca", random_state=0)
    with threadpool_limits(1):  # several threads spend most of the time in waiting for each other
        return tsne.fit_transform(embedding.astype(np.float64))


def _scatter(axis: Axes, points: np.ndarray, targets: np.ndarray) -> None:
    for each, look in style.looks(np.unique(targets).tolist()).items():
        look = look | {"linestyle": "", "label": str(each)}
        axis.plot(*points[targets == each].T, markersize=2.5, markeredgewidth=0.6, **look)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[["top", "right"]].set_visible(True)
