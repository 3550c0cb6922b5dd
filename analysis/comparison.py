"""Tables as papers print them: methods as rows, pairs as columns, every number with the runs behind it."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.selection import ALONE, Selection, printable
from analysis.settings import Epoch, Figures, Layout
from benchmarks import published
from benchmarks.pairs import PAIRS

BEST, SECOND = "best", "second"
RANK = "mean rank"
FULL = 240  # epochs of the protocol that published figures are of


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: in percent or points; NaN where there is none.
        std: over seeds, of a sample; NaN for fewer than two.
        n: seeds; 0 for what no seeds are behind.
        mark: `BEST`, `SECOND` or nothing.
        runs: ids of the runs behind it.
    """

    value: float = math.nan
    std: float = math.nan
    n: int = 0
    mark: str = ""
    runs: tuple[str, ...] = ()

    @property
    def there(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Row:
    """A row: a cell for each column, and what is computed over all columns.

    Attributes:
        name: the method's label, or what the row is about.
        cells: one for each column of the table.
        aggregates: one for each of the table's aggregates; NaN where undefined.
        source: for published figures, where they are from.
    """

    name: str
    cells: tuple[Cell, ...]
    aggregates: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Section:
    """Rows of one kind: `reference`, `methods`, `gain`, `published` or `difference`."""

    kind: str
    title: str
    rows: tuple[Row, ...]

    @property
    def signed(self) -> bool:
        """Whether its numbers are differences."""
        return self.kind in ("gain", "difference")


@dataclass(frozen=True)
class Column:
    """A pair; `variant` tells it from the same pair under another teacher or learning rate."""

    name: str
    pair: str
    teacher: str
    student: str
    data: str

    @property
    def variant(self) -> str:
        return self.name.removeprefix(printable(self.pair)).strip()


@dataclass(frozen=True)
class Table:
    """One protocol's comparison on one group of pairs.

    Attributes:
        title: what it shows.
        protocol: of all its runs.
        columns, sections: what stands where.
        aggregates: heads of what is computed over all columns.
        notes: how it is to be read.
    """

    title: str
    protocol: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    aggregates: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_seeds(self) -> int:
        """What most cells have."""
        counts = Counter(
            cell.n for section in self.sections for row in section.rows for cell in row.cells if cell.n
        )
        return counts.most_common(1)[0][0] if counts else 0

    def section(self, kind: str) -> Section | None:
        """The section of a kind, if there is one."""
        return next((section for section in self.sections if section.kind == kind), None)


class Scores:
    """The measured values of one protocol and group of pairs.

    Args:
        cells: a selection's, of one protocol.
        runs: the table of runs, for the teachers.
    """

    def __init__(self, cells: pd.DataFrame, runs: pd.DataFrame) -> None:
        self.columns = _columns(cells)
        self.rows = _rows(cells)
        self.methods = [row for row, method in self.rows.items() if method != ALONE]
        self.split = str(cells["split"].iloc[0])
        self._values: dict[tuple[str, str], dict[int, float]] = {}
        self._ids: dict[tuple[str, str], tuple[str, ...]] = {}
        for names, group in cells.groupby(["row", "column"]):
            place = (str(names[0]), str(names[1]))
            self._values[place] = dict(zip(group["seed"], group["value"], strict=True))
            self._ids[place] = tuple(group["run_id"])
        self._teachers = runs["teacher_top1"].dropna()  # in the order in which the runs began

    def of(self, row: str, column: Column) -> dict[int, float]:
        """A cell's values by seed; empty where nothing was run."""
        return self._values.get((row, column.name), {})

    def cell(self, row: str, column: Column) -> Cell:
        """Mean and spread of a cell's runs."""
        values = np.array(list(self.of(row, column).values()))
        if not len(values):
            return Cell()
        return Cell(float(values.mean()), statistics.std(values), len(values), runs=self.ids(row, column))

    def ids(self, row: str, column: Column) -> tuple[str, ...]:
        """The runs of a cell."""
        return self._ids.get((row, column.name), ())

    def means(self, row: str) -> np.ndarray:
        """A row's means over seeds, one for each column."""
        return np.array([self.cell(row, column).value for column in self.columns])

    def gain(self, row: str, reference: str, column: Column) -> Cell:
        """The difference of two rows, matched by seed."""
        ours, theirs = statistics.matched(self.of(row, column), self.of(reference, column))
        if not len(ours):
            return Cell()
        difference = ours - theirs
        ids = (*self.ids(row, column), *self.ids(reference, column))
        return Cell(float(difference.mean()), statistics.std(difference), len(difference), runs=ids)

    def tests(self, first: str, column: Column) -> dict[str, float]:
        """p of each method being as good as `first`, in blocks of seeds; NaN where they share too few."""
        seeds = self.of(first, column).keys()
        rows = [row for row in self.methods if len(seeds & self.of(row, column).keys()) >= statistics.MIN_SEEDS]
        if first not in rows:
            return dict.fromkeys(self.methods, math.nan)
        shared = sorted(set(seeds).intersection(*(self.of(row, column) for row in rows)))
        table = np.array([[self.of(row, column)[seed] for row in rows] for seed in shared]).reshape(-1, len(rows))
        p = statistics.block_p(table, rows.index(first))
        return dict.fromkeys(self.methods, math.nan) | dict(zip(rows, p, strict=True))

    def teacher(self, column: Column) -> Cell:
        """The teacher's accuracy as the latest of the column's runs measured it."""
        ids = {run_id for (_, name), runs in self._ids.items() if name == column.name for run_id in runs}
        measured = [run_id for run_id in self._teachers.index if run_id in ids]
        return Cell(float(self._teachers[measured[-1]]), runs=(measured[-1],)) if measured else Cell()


def _columns(cells: pd.DataFrame) -> list[Column]:
    """In the order of the known pairs, then by name."""
    order = {pair: place for place, pair in enumerate(PAIRS)}
    rows = cells.drop_duplicates("column")[["column", "pair", "teacher", "student", "data"]]
    columns = [Column(*map(str, row)) for row in rows.itertuples(index=False)]
    return sorted(columns, key=lambda column: (order.get(column.pair, len(order)), column.name))


def _rows(cells: pd.DataFrame) -> dict[str, str]:
    """Rows and their methods, in the order of the literature, then by name."""
    known = [ALONE, *dict.fromkeys(figure.method for figure in published.figures())]
    order = {method: place for place, method in enumerate(known)}
    rows = dict(zip(cells["row"], cells["method"], strict=True))
    return dict(sorted(rows.items(), key=lambda item: (order.get(item[1], len(order)), item[1], item[0])))


def family(network: str) -> str:
    """The architecture a network belongs to: the letters its name begins with."""
    return re.match(r"[A-Za-z]*", network).group()  # type: ignore[union-attr]


GROUPS = {
    "same architecture": lambda column: family(column.teacher) == family(column.student),
    "different architectures": lambda column: family(column.teacher) != family(column.student),
}


def tables_and_scores(selection: Selection, runs: pd.DataFrame, layout: Layout) -> list[tuple[Table, Scores]]:
    """The comparison: a table for each protocol and, with `layout.groups`, kind of pairs; with what it shows."""
    made = []
    for protocol, cells in selection.cells.groupby("protocol"):
        for group, belongs in (GROUPS if layout.groups else {"": lambda column: True}).items():
            names = [column.name for column in _columns(cells) if belongs(column)]
            inside = cells[cells["column"].isin(names)]
            if not inside.empty:
                scores = Scores(inside, runs)
                made.append((_table(str(protocol), group, scores, layout), scores))
    return made


def _table(protocol: str, group: str, scores: Scores, layout: Layout) -> Table:
    aggregates = _aggregates(scores, layout.baseline)
    sections = [_reference(scores), _methods(scores, layout.alpha, aggregates)]
    if layout.gain and ALONE in scores.rows:
        gain = _section("gain", "gain over the student alone", scores, lambda row, c: scores.gain(row, ALONE, c))
        sections.append(gain)
    if layout.published != Figures.none and scores.split == "test":
        sections += _published(scores, every=layout.published == Figures.all)
    what = f"{scores.split} top-1 in %, {'last epoch' if layout.epoch == Epoch.last else 'BEST epoch'}"
    title = f"{group}: {what}" if group else what
    sections = [section for section in sections if section.rows]
    table = Table(title, protocol, tuple(scores.columns), tuple(sections), tuple(aggregates))
    return replace(table, notes=_notes(table, scores, layout))


def _section(kind: str, title: str, scores: Scores, cell: Callable[[str, Column], Cell]) -> Section:
    """A section with a row for each method."""
    rows = (Row(row, tuple(cell(row, column) for column in scores.columns)) for row in scores.methods)
    return Section(kind, title, tuple(rows))


def _reference(scores: Scores) -> Section:
    teacher = Row("teacher", tuple(scores.teacher(column) for column in scores.columns))
    alone = [row for row, method in scores.rows.items() if method == ALONE] or [ALONE]
    students = [
        Row(
            "student alone" if row == ALONE else f"student alone: {row}",
            tuple(scores.cell(row, column) for column in scores.columns),
        )
        for row in alone
    ]
    return Section("reference", "", (teacher, *students))


def _methods(scores: Scores, alpha: float, aggregates: dict[str, dict[str, float]]) -> Section:
    marks = {column.name: mark(scores, column, alpha) for column in scores.columns}
    section = _section(
        "methods",
        "",
        scores,
        lambda row, column: replace(scores.cell(row, column), mark=marks[column.name].get(row, "")),
    )
    rows = (
        replace(row, aggregates=tuple(values.get(row.name, math.nan) for values in aggregates.values()))
        for row in section.rows
    )
    return replace(section, rows=tuple(rows))


def mark(scores: Scores, column: Column, alpha: float) -> dict[str, str]:
    """Rows that share the first and the second place in a column.

    A row shares a place if it is not told apart from the best row there: among all such comparisons of the place
    its Holm-adjusted p, in blocks of seeds, is at least `alpha`. Untested rows share it when they print alike.
    """
    means = {row: scores.cell(row, column).value for row in scores.methods}
    left = [row for row, mean in means.items() if not math.isnan(mean)]
    marks: dict[str, str] = {}
    for place in (BEST, SECOND):
        if left and len(means) > 1:
            first = max(left, key=lambda row: means[row])
            alike = [first, *_alike(scores, column, first, [row for row in left if row != first], alpha)]
            marks |= dict.fromkeys(alike, place)
            left = [row for row in left if row not in alike]
    return marks


def _alike(scores: Scores, column: Column, first: str, others: Sequence[str], alpha: float) -> list[str]:
    tests = scores.tests(first, column)
    p = dict(zip(others, statistics.holm(np.array([tests[row] for row in others])), strict=True))
    best = f"{scores.cell(first, column).value:.2f}"
    return [
        row
        for row, chance in p.items()
        if (f"{scores.cell(row, column).value:.2f}" == best if math.isnan(chance) else chance >= alpha)
    ]


def _aggregates(scores: Scores, baseline: str) -> dict[str, dict[str, float]]:
    """What is computed over all columns, by its head: for each method that has a value in every column."""
    means = {row: scores.means(row) for row in scores.methods}
    whole = {row: values for row, values in means.items() if not np.isnan(values).any()}
    found: dict[str, dict[str, float]] = {}
    if baseline in whole and not np.isnan(scores.means(ALONE)).any():
        found[_relative(baseline)] = {
            row: statistics.relative_improvement(values, whole[baseline], scores.means(ALONE))
            for row, values in whole.items()
            if row != baseline
        }
    if len(whole) > 1:
        mean_ranks = statistics.ranks(np.array(list(whole.values())).T).mean(axis=0)
        found[RANK] = dict(zip(whole, mean_ranks, strict=True))
    return {head: values for head, values in found.items() if not all(map(math.isnan, values.values()))}


def _published(scores: Scores, every: bool) -> list[Section]:
    """Rows of published figures, and of the differences to them."""
    known = {"teacher": "teacher", "student": "student alone"} | {row: row for row in scores.methods}
    figures = [
        figure
        for figure in published.figures()
        if any(_same_pair(figure, column) for column in scores.columns) and (every or figure.method in known)
    ]
    lines = dict.fromkeys((figure.method, figure.source) for figure in figures)
    rows = [
        Row(
            known.get(method, method),
            tuple(_figure(figures, method, source, c) for c in scores.columns),
            source=source,
        )
        for method, source in lines
    ]
    differences = [
        Row(known[method], tuple(_reproduced(scores, method, column) for column in scores.columns))
        for method in known
        if any(method == figure.method for figure in figures)
    ]
    return [
        Section("published", "published", tuple(rows)),
        Section("difference", "measured − published", tuple(differences)),
    ]


def _same_pair(figure: published.Published, column: Column) -> bool:
    return (figure.data, figure.teacher, figure.student) == (column.data, column.teacher, column.student)


def _figure(figures: Iterable[published.Published], method: str, source: str, column: Column) -> Cell:
    for figure in figures:
        if (figure.method, figure.source) == (method, source) and _same_pair(figure, column):
            return Cell(figure.top1)
    return Cell()


def _reproduced(scores: Scores, method: str, column: Column) -> Cell:
    """What was measured less the first published figure."""
    figure = published.find(column.data, column.teacher, column.student, method)
    measured = {"teacher": scores.teacher, "student": lambda column: scores.cell(ALONE, column)}.get(
        method, lambda column: scores.cell(method, column)
    )(column)
    return Cell() if figure is None else Cell(measured.value - figure.top1, n=measured.n, runs=measured.runs)


def _notes(table: Table, scores: Scores, layout: Layout) -> tuple[str, ...]:
    """How the table is to be read."""
    notes = []
    if table.num_seeds > 1:
        notes.append(f"mean ± sample standard deviation over {table.num_seeds} seeds, another number in brackets")
    else:
        notes.append("one seed, another number in brackets: no spread is known")
    if layout.epoch == Epoch.best:
        notes.append(
            "BEST epoch: chosen by the evaluation itself, which flatters; the last epoch is what is reported"
        )
    if len(scores.methods) > 1:
        notes += _notes_on_marks(scores, layout.alpha)
    if any(not cell.there for section in table.sections for row in section.rows for cell in row.cells):
        notes.append("–: no complete run, or no figure")
    if table.section("gain"):
        notes.append("gain: mean difference of the same seeds")
    if table.aggregates:
        notes += _notes_on_aggregates(layout.baseline, table.aggregates)
    if table.section("published"):
        notes.append(f"published figures: {FULL} epochs; these runs: {' '.join(table.protocol.split()[1:])}")
    return tuple(notes)


def _notes_on_marks(scores: Scores, alpha: float) -> list[str]:
    notes = [
        "bold: best, underlined: second; marked alike: not told apart from it by a t test in blocks of seeds, "
        f"its error pooled over methods (Holm, p ≥ {alpha:g})"
    ]
    seeds = [
        scores.of(one, column).keys() & scores.of(other, column).keys()
        for column in scores.columns
        for one, other in itertools.combinations(scores.methods, 2)
    ]
    tested = [len(shared) >= statistics.MIN_SEEDS for shared in seeds]
    if not all(tested):
        few = f"fewer than {statistics.MIN_SEEDS} shared seeds"
        notes.append(
            f"{'' if any(tested) else 'here everywhere: '}{few} cannot be tested: marked by the mean alone"
        )
    return notes


def _notes_on_aggregates(baseline: str, aggregates: Sequence[str]) -> list[str]:
    notes = []
    if _relative(baseline) in aggregates:
        notes.append(
            f"{_relative(baseline)}: average relative improvement as CRD (ICLR 2020) defines it, "
            f"mean over pairs of (method − {baseline}) / ({baseline} − student alone)"
        )
    if RANK in aggregates:
        notes.append("mean rank: over pairs, among methods with a value in each")
    return notes


def _relative(baseline: str) -> str:
    return f"over {baseline}, %"
