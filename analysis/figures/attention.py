"""Where teacher and student look, stage by stage, on sample images; and the AFBs that AFT-KD compares.

Attention: mean over channels of |F|. AFB: length of each cell's vector over channels. Each map is scaled to its own
maximum; teacher's and student's maps of one stage are side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.artifacts import Arrays
from analysis.cells import shown
from analysis.figures.differences import LINE, wrapped
from analysis.figures.inside import Inside, insides, left_out
from analysis.figures.settings import PlotConfig
from analysis.figures.view import View
from benchmarks import style

TILE, GAP = 0.46, 0.1  # side of a picture in inches, and the gap between two as a part of it
WIDE = 90  # letters in a line of a title


@dataclass(frozen=True)
class Strip:
    """A column of pictures under a title, one for each sample: [S, h, w], or [S, h, w, 3] in colour."""

    title: str
    pictures: np.ndarray


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no run wrote its arrays."""
    cells = insides(view, options.seed)
    blocks = [_strips(cell) for cell in cells]
    rows = min(options.samples, len(blocks[0][0].pictures))
    most = max(map(len, blocks))
    tile = min(TILE, style.TEXT / (most * (1 + GAP)))
    titles = [wrapped(f"{shown(cell.row)}, {cell.column.name}, seed {cell.seed}", WIDE) for cell in cells]
    height = rows * tile * (1 + GAP) + 0.48 + LINE * max(title.count("\n") for title in titles)
    figure = Figure(figsize=(style.TEXT, height * len(cells) + 0.3))
    axes = figure.subplots(len(cells), 1, squeeze=False).ravel()
    for axis, title, strips in zip(axes, titles, blocks, strict=True):
        _mosaic(axis, strips, rows, most)
        axis.set_title(title, loc="left", pad=15)
    style.note(
        figure,
        "T: teacher, S: student, with the number of the stage; every map is scaled to its own maximum",
        *left_out(view, cells),
    )
    return figure


def _strips(cell: Inside) -> list[Strip]:
    strips = [Strip("image", cell.arrays["images"].transpose(0, 2, 3, 1) / 255)]
    strips += _maps("", cell.teacher, cell.arrays, "attention")
    if "teacher/afb/1" in cell.arrays:
        strips += _maps("AFB ", cell.arrays, cell.arrays, "afb")
    return strips


def _maps(name: str, teacher: Arrays | None, student: Arrays, kind: str) -> list[Strip]:
    """Teacher's and student's maps of each stage in turn, without the stem's; where one has more they follow."""
    maps = {"T": {} if teacher is None else teacher.stages("teacher", kind), "S": student.stages("student", kind)}
    stages = sorted({*maps["T"], *maps["S"]} - {0})
    return [
        Strip(f"{name}{letter}{stage}", energy(of[stage]))
        for stage in stages
        for letter, of in maps.items()
        if stage in of
    ]


def energy(maps: np.ndarray) -> np.ndarray:
    """Of [S, C, h, w] the length over channels, [S, h, w]; those without channels as they are."""
    return maps if maps.ndim == 3 else np.linalg.norm(maps, axis=1)


def _mosaic(axis: Axes, strips: list[Strip], rows: int, most: int) -> None:
    """All pictures of a block as one image: hundreds of axes would take minutes to lay out."""
    side = max(max(strip.pictures.shape[1:3]) for strip in strips)
    pitch = side + max(1, round(GAP * side))
    canvas = np.ones((rows * pitch, most * pitch, 3))
    for k, strip in enumerate(strips):
        axis.text(k * pitch + side / 2, -0.12 * side, strip.title, ha="center", va="bottom", fontsize=6.5)
        for sample in range(rows):
            place = np.s_[sample * pitch : sample * pitch + side, k * pitch : k * pitch + side]
            canvas[place] = _tile(strip.pictures[sample], side)
    axis.imshow(canvas, interpolation="nearest")
    axis.set_axis_off()
    axis.set_anchor("W")  # a title to the right of the middle would have half the room


def _tile(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture in colour, [side, side, 3], each of its values as a square."""
    if picture.ndim == 2:
        picture = mpl.colormaps[style.HEAT](picture / (picture.max() or 1))[..., :3]
    nearest = np.arange(side) * len(picture) // side
    return picture[nearest][:, nearest]
