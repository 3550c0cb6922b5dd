"""Tables as papers print them: methods as rows, pairs as columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.cells import Cell, Column, Row, Section, Table
from analysis.marks import Marks, marks_of
from analysis.notes import RANK, notes_on, relative_to
from analysis.scores import Scores, columns_of
from analysis.selection import Selection
from analysis.settings import Epoch, Layout, Measure, PublishedRows
from benchmarks import published
from methods import ALONE


def family(network: str) -> str:
    """The architecture a network belongs to: the letters its name begins with.

    Their case counts: ResNet50 is ImageNet's form of it in four stages of bottlenecks, resnet20 CIFAR's in three.
    """
    return re.match(r"[A-Za-z]*", network).group()  # type: ignore[union-attr]


GROUPS = {
    "same architecture": lambda column: family(column.teacher) == family(column.student),
    "different architectures": lambda column: family(column.teacher) != family(column.student),
}


def comparison_tables(selection: Selection, runs: pd.DataFrame, layout: Layout) -> list[Table]:
    """The comparison: a table for each protocol and, with `layout.groups`, kind of pairs."""
    made = []
    for protocol, cells in selection.cells.groupby("protocol"):
        for group, belongs in (GROUPS if layout.groups else {"": lambda column: True}).items():
            names = [column.name for column in columns_of(cells) if belongs(column)]
            inside = cells[cells["column"].isin(names)]
            if not inside.empty:
                made.append(_table(str(protocol), group, Scores(inside, runs, layout.measure), layout))
    return made


def _table(protocol: str, group: str, scores: Scores, layout: Layout) -> Table:
    aggregates = _aggregates(scores, layout.baseline)
    marks = [marks_of(scores, column, layout.alpha) for column in scores.columns]
    sections = [_reference(scores, due=not layout.methods), _methods(scores, marks, aggregates)]
    if layout.gain and ALONE in scores.rows:
        name = "gain over the student alone" if scores.measure.sign > 0 else "difference to the student alone"
        rows = (Row(row, tuple(scores.difference(row, ALONE, c) for c in scores.columns)) for row in scores.methods)
        sections.append(Section("gain", name, tuple(rows)))
    if layout.published != PublishedRows.none and scores.split == "test":
        sections += _published(scores, every=layout.published == PublishedRows.all)
    what = f"{scores.split} {scores.measure.words}, {'last epoch' if layout.epoch == Epoch.last else 'BEST epoch'}"
    title = f"{group}: {what}" if group else what
    sections = [section for section in sections if section.rows]
    table = Table(title, protocol, tuple(scores.columns), tuple(sections), tuple(aggregates))
    return replace(table, notes=notes_on(table, scores, layout, marks))


def _reference(scores: Scores, due: bool) -> Section:
    """The teacher, whose top-1 alone is logged, and the student alone, which follows no teacher.

    Args:
        scores: of the table.
        due: whether the student alone has a row without any run of it: it is missing then.
    """
    alone = [row for row, method in scores.rows.items() if method == ALONE]
    teachers = []
    if scores.measure == Measure.top1:
        teachers = [Row("teacher", tuple(scores.teacher(column) for column in scores.columns))]
        alone = alone or [ALONE] * due
    students = [
        Row(
            _alone(row),
            tuple(scores.cell(row, column) for column in scores.columns),
            versions=scores.versions(row) if row in scores.rows else 1,
        )
        for row in alone
    ]
    return Section("reference", "", (*teachers, *students))


def _alone(row: str) -> str:
    return "student alone" if row == ALONE else f"student alone: {row}"


def _methods(scores: Scores, marks: Sequence[Marks], aggregates: dict[str, dict[str, float]]) -> Section:
    columns = list(zip(scores.columns, marks, strict=True))
    rows = (
        Row(
            row,
            tuple(replace(scores.cell(row, c), mark=of.by_row.get(row, "")) for c, of in columns),
            aggregates=tuple(values.get(row, math.nan) for values in aggregates.values()),
            versions=scores.versions(row),
        )
        for row in scores.methods
    )
    return Section("methods", "", tuple(rows))


def _aggregates(scores: Scores, baseline: str) -> dict[str, dict[str, float]]:
    """What is computed over all columns, by its head: for each method that has a value in every column."""
    found: dict[str, dict[str, float]] = {}
    if not scores.small_gains(baseline):
        gained = _means(scores, baseline, ALONE)
        found[relative_to(baseline)] = {
            row: statistics.relative_improvement(_means(scores, row, baseline), gained)
            for row in scores.methods
            if row != baseline
        }
    worth = scores.worth_on_pairs()
    if min(worth.shape) > 1:
        mean_ranks = statistics.ranks(worth.to_numpy()).mean(axis=0)
        found[RANK] = dict(zip(scores.on_every_pair, mean_ranks, strict=True))
    return {head: values for head, values in found.items() if not all(map(math.isnan, values.values()))}


def _means(scores: Scores, row: str, reference: str) -> np.ndarray:
    """Differences of two rows, a mean over the seeds that both have for each column."""
    return np.array([scores.difference(row, reference, column).value for column in scores.columns])


def _published(scores: Scores, every: bool) -> list[Section]:
    """Rows of published figures, and of the differences to them."""
    known = {"teacher": "teacher", "student": "student alone"}
    known |= {method: method for method in scores.rows.values() if method != ALONE and scores.plain(method)}
    figures = [
        figure
        for figure in published.figures()
        if any(_same_pair(figure, column) for column in scores.columns) and (every or figure.method in known)
    ]
    places = {method: place for place, method in enumerate(known)}
    sources = dict.fromkeys((figure.method, figure.source) for figure in figures)
    lines = sorted(sources, key=lambda line: places.get(line[0], len(places)))
    others = {figure.method for figure in figures if not _is_measured(scores, figure)}
    labels = known | {
        method: _of_another_form(method, (figure.settings for figure in figures if figure.method == method))
        for method in others
    }
    rows = [
        Row(
            labels.get(method, method),
            tuple(_figure(figures, method, source, c) for c in scores.columns),
            source=source,
        )
        for method, source in lines
    ]
    differences = [
        Row(
            row.name,
            tuple(_reproduced(*each, scores, method) for each in zip(row.cells, scores.columns, strict=True)),
        )
        for method in known
        if any(method == figure.method and _is_measured(scores, figure) for figure in figures)
        for row in _measured(scores, method)
    ]
    return [
        Section("published", "published", tuple(rows)),
        Section("difference", "measured − published", tuple(differences)),
    ]


def _same_pair(figure: published.Published, column: Column) -> bool:
    return (figure.data, figure.teacher, figure.student) == (column.data, column.teacher, column.student)


def _of_another_form(method: str, forms: Iterable[str]) -> str:
    """The name of a row of published figures some of which are not of the runs' form: with all of theirs."""
    told = " or ".join(filter(None, dict.fromkeys(forms)))
    return f"{method} ({told}, else as usual)" if told else f"{method} (as usual)"


def _is_measured(scores: Scores, figure: published.Published) -> bool:
    """Whether the runs of its method on its pair, if there are any, are of the form and settings that it is of."""
    columns = [column for column in scores.columns if _same_pair(figure, column)]
    rows = scores.plain(figure.method)
    return all(figure.is_of(each) for column in columns for row in rows for each in scores.configs(row, column))


def _figure(figures: Iterable[published.Published], method: str, source: str, column: Column) -> Cell:
    for figure in figures:
        if (figure.method, figure.source) == (method, source) and _same_pair(figure, column):
            return Cell(figure.top1)
    return Cell()


def _measured(scores: Scores, method: str) -> list[Row]:
    """What was measured of a published method, teacher or student: a row for each version of the code."""
    if method == "teacher":
        return [Row("teacher", tuple(map(scores.teacher, scores.columns)))]
    if method == "student":
        names = {row: _alone(row) for row in scores.plain(ALONE) or [ALONE]}
    else:
        names = {row: row for row in scores.plain(method)}
    return [Row(name, tuple(scores.cell(row, column) for column in scores.columns)) for row, name in names.items()]


def _reproduced(measured: Cell, column: Column, scores: Scores, method: str) -> Cell:
    """What was measured less the first published figure, where that is of the form that was measured."""
    figure = published.find(column.data, column.teacher, column.student, method)
    if figure is None or not _is_measured(scores, figure):
        return Cell()
    return Cell(measured.value - figure.top1, n=measured.n, runs=measured.runs)
