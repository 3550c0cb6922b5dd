"""The lines below a table that say how it is to be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from analysis.cells import BEST, SECOND, Column, Table
from analysis.grid import MIXED
from analysis.marks import Marks
from analysis.scores import Scores
from analysis.settings import Epoch, Layout, PublishedRows

RANK = "mean rank"
FULL = 240  # epochs of the protocol that published figures are of


def notes_on(table: Table, scores: Scores, layout: Layout, marks: Sequence[Marks]) -> tuple[str, ...]:
    """How the table, whose columns have these marks, is to be read."""
    notes = []
    counts = {cell.n for section in table.sections for row in section.rows for cell in row.cells if cell.n}
    others = " unless (n) is given" if len(counts) > 1 else ""
    if table.num_seeds > 1:
        notes.append(f"mean ± sample standard deviation over {table.num_seeds} seeds{others}")
    else:
        spread = "; ±: sample standard deviation" if others else ""
        notes.append(f"one seed per cell{others}: no spread is known{spread}")
    if any(_are_of_other_seeds(scores, column) for column in scores.columns):
        notes.append("rows of a column have different seeds: part of their differences may be due to the seeds")
    if any(scores.teacher(column).n for column in scores.columns):
        notes.append("teacher ±: each seed has a teacher of its own, whose differences are in all spreads")
    if layout.epoch == Epoch.best:
        notes.append(
            "BEST epoch: chosen on the evaluation data itself, which flatters; what to report is the last epoch"
        )
    if scores.measure.sign < 0:
        notes.append("less is better")
    if len(scores.methods) > 1:
        notes += _notes_on_marks(marks, layout.alpha)
    if any(not cell.there for section in table.sections for row in section.rows for cell in row.cells):
        notes.append("–: no complete run, or no value")
    notes += _notes_on_settings(scores, layout.names)
    notes += _notes_on_versions(table, scores, layout.names)
    if gain := table.section("gain"):
        name, *_ = gain.title.split()  # less is no gain where less is better
        notes.append(f"{name}: mean of the differences, paired by seed")
    notes += _notes_on_aggregates(layout, table.aggregates, scores)
    if layout.published != PublishedRows.none and not table.section("published"):
        notes.append("published: there are no figures of these methods on these pairs and this evaluation")
    if table.section("published"):
        notes.append(f"published figures: {FULL} epochs; these runs: {' '.join(table.protocol.split()[1:])}")
    return tuple(notes)


def _are_of_other_seeds(scores: Scores, column: Column) -> bool:
    """Whether two rows of a column each have seeds that the other lacks; where only one has, its (n) tells."""
    seeds = [frozenset(scores.of(row, column)) for row in scores.rows]
    return any(one - other and other - one for one, other in itertools.combinations(set(seeds), 2))


def _notes_on_marks(marks: Sequence[Marks], alpha: float) -> list[str]:
    given = {mark for column in marks for mark in column.by_row.values()}
    notes = []
    if BEST in given:
        notes.append(
            f"bold: the best method and all that a test cannot tell apart from it at nominal level {alpha:g}, two "
            "to five times that where methods vary very unequally (studentised range, stepwise from the worst, "
            "blocked by the seeds that both have; error: of the difference itself or pooled over the methods with "
            "those seeds, whichever is larger)"
        )
    if SECOND in given:
        notes.append("underlined: the second-best mean, where only one method is bold")
    if reasons := dict.fromkeys(reason for column in marks for reason in column.untested):
        where = "no mark" if BEST in given else "no marks"
        notes.append(f"{where}: {' or '.join(reasons)} cannot be tested")
    return notes


def _notes_on_settings(scores: Scores, names: Mapping[str, str]) -> Iterator[str]:
    """Which rows that bear a method's name alone are of other settings than its usual ones."""
    for row in scores.rows:
        if told := scores.unusual(row):
            yield f"{names.get(row, row)} is not as usual: {' '.join(told)}"


def _notes_on_versions(table: Table, scores: Scores, names: Mapping[str, str]) -> Iterator[str]:
    """Which rows average runs of several versions of the code, if any do."""
    mixed = [row for section in table.sections for row in section.rows if row.versions > 1]
    if mixed:
        counts = ", ".join(f"{names.get(row.name, row.name)} {row.versions}" for row in mixed)
        yield f"{MIXED} versions of the code among a cell's runs: {counts}; {'; '.join(_on_files(scores))}"


def _on_files(scores: Scores) -> Iterator[str]:
    """What is known of those files in the mixed rows in which no two runs of a cell may differ."""
    mixed = [row for row in scores.rows if scores.versions(row) > 1]
    told, same = "the method's own file is the same", all(map(scores.is_one_method, mixed))
    yield told if same else f"whether {told} is not known"
    if any(map(scores.tells_network, mixed)):
        told = "the network's and the data set's own files are the same"
        same = all(map(scores.is_one_network, mixed))
        yield told if same else f"whether {told} is not known"


def _notes_on_aggregates(layout: Layout, aggregates: Sequence[str], scores: Scores) -> Iterator[str]:
    called = layout.names.get(layout.baseline, layout.baseline)
    if relative_to(layout.baseline) in aggregates:
        yield (
            f"{relative_to(called)}: average relative improvement as CRD (ICLR 2020) defines it, "
            f"mean over pairs of (method − {called}) / ({called} − student alone), differences paired by seed"
        )
    elif small := [column.name for column, gain in scores.small_gains(layout.baseline).items() if gain.there]:
        yield (
            f"no column '{relative_to(called)}': on {', '.join(small)} the gain of {called} over the student alone "
            "is within its deviation over seeds, or of one seed"
        )
    if RANK in aggregates:
        rows = scores.on_every_pair
        fewer = any(len(scores.of(row, c)) > len(scores.shared[c.name]) for row in rows for c in scores.columns)
        told = ", which are not all that some have" if fewer else ""
        yield f"mean rank: over pairs, among methods with a value in each, by the seeds that all of them have{told}"
    elif len(scores.columns) > 1 and len(scores.on_every_pair) > 1:
        lacking = ", ".join(name for name, shared in scores.shared.items() if shared.empty)
        yield f"no mean rank: the methods with a value on each pair have no seed in common on {lacking}"


def relative_to(baseline: str) -> str:
    """The head of the average relative improvement."""
    return f"over {baseline}, %"
