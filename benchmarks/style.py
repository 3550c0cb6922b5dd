"""One look for all figures: legible at a column's width, also to the colour-blind, the same bytes each time.

Text stays text in PDF and SVG; nothing in a file depends on when it was made.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
import textwrap
import warnings
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.files import write_atomically, write_text
from benchmarks.hashing import short_hash

Name = TypeVar("Name", bound=Hashable)  # of what has a look
COLUMN, TEXT = 3.4, 7.0  # inches: width of a column and of the text in a paper of two columns
GREY = "#666666"
# Okabe & Ito, Color Universal Design (2008); yellow is left out, too pale for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DOTTED = (0, (1, 1))
# Whether markers are filled, and the line; of both, each combination once.
FILLS = (
    *((True, "-"), (False, "--"), (True, "-."), (False, DOTTED)),
    *((False, "-"), (True, "--"), (False, "-."), (True, DOTTED)),
)
NOTE = 6.5  # points, the size of small print
LEGEND_LINE = 0.15  # inches
HANDLE = 7  # letters that line and marker beside a name in a legend are wide
MANY = 300  # from the lowest to the highest number of a logarithmic axis: more, and only powers of ten have room
HEAT = "cividis"  # even in lightness, and the same to those who see no red or green

SETTINGS: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: editable, and accepted by publishers
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "kd-benchmarks",
    "text.parse_math": False,  # a label may hold a dollar sign
}
MISSING = re.compile(r"Glyph (\d+) .* missing from")  # matplotlib's warning
CLIPPING = re.compile(r'<clipPath id="(p\w{10})">(.*?)</clipPath>', re.DOTALL)
CLIPPED = re.compile(r"\bp\w{10}\b")
# What would say when a file was made.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Within it figures are made and saved in this style, whatever the user's own is."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's ending, one of `METADATA`, names.

    Raises:
        UserError: the file cannot be written.
    """
    form = path.suffix[1:].lower()
    if form == "svg":
        write_text(path, svg(figure))
    else:
        write_atomically(path, lambda to: _print(figure, to, form))


def svg(figure: Figure) -> str:
    """A figure as an SVG document."""
    out = io.BytesIO()
    _print(figure, out, "svg")
    document = out.getvalue().decode()
    # matplotlib names clipping paths by their unrounded corners, whose last bits are not the same each time.
    names = {name: f"p{short_hash(path)}" for name, path in CLIPPING.findall(document)}
    return CLIPPED.sub(lambda found: names.get(found[0], found[0]), document)


def _print(figure: Figure, to: Any, form: str) -> None:
    with applied(), warnings.catch_warnings(record=True) as caught:
        figure.savefig(to, format=form, metadata=METADATA[form])
    missing = dict.fromkeys(found[1] for each in caught if (found := MISSING.match(str(each.message))))
    if missing and form != "svg":  # there text stays text, for the reader's own fonts
        characters = "".join(chr(int(code)) for code in missing)
        print(f"note: matplotlib's font has no {characters}; in SVG the reader's fonts draw them", file=sys.stderr)
    for each in caught:
        if not MISSING.match(str(each.message)):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def looks(names: Sequence[Name], plain: Name | None = None) -> dict[Name, dict[str, Any]]:
    """Colour, marker, its filling and line of each name: of 48 no two alike, be it without colours or lines.

    Args:
        names: what is shown.
        plain: the one of them that the others are measured by: black.
    """
    kinds = (
        (color, marker, filled, line)
        for turn, (filled, line) in enumerate(FILLS)
        for color, marker in zip(PALETTE[turn // 2 :] + PALETTE[: turn // 2], MARKERS, strict=True)
    )
    found: dict[Name, dict[str, Any]] = {}
    if plain is not None and plain in names:
        found[plain] = {"color": "black", "marker": "x", "linestyle": ":"}
    others = [name for name in names if name != plain]
    for name, (color, marker, filled, line) in zip(others, itertools.cycle(kinds), strict=False):
        fill = color if filled else "white"
        found[name] = {"color": color, "marker": marker, "markerfacecolor": fill, "linestyle": line}
    return found


def panels(groups: Sequence[int], height: float = 2.1, most: int = 3, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """A figure with panels, each group of them beginning a new line; a single panel is a column wide.

    Args:
        groups: number of panels of each.
        height: of each line of panels in inches.
        most: panels beside each other.
        kwargs: for `Figure.subplots`.
    """
    columns = min(max(groups), most)
    lines = [-(-count // columns) for count in groups]
    figure = Figure(figsize=(COLUMN if sum(groups) == 1 else TEXT, height * sum(lines) + 0.4))
    grid = iter(figure.subplots(sum(lines), columns, squeeze=False, **kwargs))
    axes = []
    for count, num_lines in zip(groups, lines, strict=True):
        places = [axis for line in itertools.islice(grid, num_lines) for axis in line]
        axes += places[:count]
        for empty in places[count:]:
            empty.remove()
    return figure, axes


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels, each name once, in as many columns as fit; the teacher after all others.

    Names that are wider than the figure are wrapped. For each line beyond the first the figure grows, so that
    panels keep their height.
    """
    entries: dict[str, Any] = {}
    for each in axes:
        for handle, name in zip(*each.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if "teacher" in entries:
        entries["teacher"] = entries.pop("teacher")
    if entries:
        most = int(_letters(figure, 7)) - HANDLE
        names = [textwrap.fill(name, most) for name in entries]
        fits = int(_letters(figure, 7) // (min(max(map(len, entries)), most) + HANDLE))
        lines = -(-len(entries) // fits)
        columns = -(-len(entries) // lines)  # no more than fill as many lines
        figure.legend(entries.values(), names, loc="outside lower center", ncols=columns)
        lines += "".join(names).count("\n")
        figure.set_figheight(figure.get_figheight() + (lines - 1) * LEGEND_LINE)


def note(figure: Figure, *sentences: str) -> None:
    """What a reader must know of a figure, in small print on top."""
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, int(_letters(figure, NOTE)))]
    figure.suptitle("\n".join(lines), fontsize=NOTE, color=GREY, x=0.01, ha="left")


def _letters(figure: Figure, size: float) -> float:
    """How many letters of a size in points fit beside each other."""
    return figure.get_figwidth() * 72 / (0.58 * size)


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only, as of epochs."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as decimal numbers: text is never read as mathematics here."""

    def plain(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        return f"{value:g}" if high < MANY * low or f"{value:e}".startswith("1") else ""

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())
