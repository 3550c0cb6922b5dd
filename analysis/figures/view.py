"""What figures are drawn from: the runs of one protocol, by row (method) and column (pair)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.cells import Column, shown
from analysis.logs import Logs
from analysis.remarks import remarks, why_nothing
from analysis.scores import Scores
from analysis.selection import select
from analysis.settings import Epoch
from benchmarks import metrics, style
from benchmarks.errors import UserError
from benchmarks.words import counted
from methods import ALONE


class NothingToDraw(UserError):
    """The logs hold nothing for this kind of figure; the message says what would."""


@dataclass(frozen=True)
class View:
    """Runs of one protocol.

    Attributes:
        cells: of a selection, of this protocol.
        runs, history: the tables of the logs.
        epoch: which epoch the cells' values are of.
        remarks: what was left out, and what is worth knowing of the runs.
    """

    cells: pd.DataFrame
    runs: pd.DataFrame
    history: pd.DataFrame
    epoch: Epoch = Epoch.last
    remarks: tuple[str, ...] = ()

    @cached_property
    def scores(self) -> Scores:
        return Scores(self.cells, self.runs)

    @property
    def columns(self) -> list[Column]:
        return self.scores.columns

    @property
    def rows(self) -> list[str]:
        """All rows as they were asked for; else the student alone first."""
        return list(self.scores.rows)

    @property
    def protocol(self) -> str:
        return str(self.cells["protocol"].iloc[0])

    @property
    def top1(self) -> str:
        """The metric of the evaluation's accuracy."""
        return metrics.evaluation(self.scores.split, "top1")

    @property
    def accuracy(self) -> str:
        """What the cells' values are, for an axis."""
        return f"{self.scores.split} top-1, %" + (", BEST epoch" if self.epoch == Epoch.best else "")

    def rows_of(self, method: str) -> list[str]:
        """A method's rows: one, and one for each of its variants and versions."""
        return [row for row, of in self.scores.rows.items() if of == method]

    def runs_of(self, row: str, column: Column) -> dict[int, str]:
        """Ids of a cell's runs by seed."""
        return dict(zip(self.scores.of(row, column), self.scores.ids(row, column), strict=True))

    def not_drawn(self, drawn: Set[tuple[str, Column]], rows: Sequence[str], why: str) -> list[str]:
        """A note on the cells with runs that are not drawn, if any; a row of which none is by its name alone.

        Args:
            drawn: row and column of those that are.
            rows: that were to be drawn.
            why: the others are not, behind "not shown, ".
        """
        partly = {row for row, _ in drawn}
        names = (
            f"{shown(row)} on {column.name}" if row in partly else shown(row)
            for column in self.columns
            for row in rows
            if (row, column) not in drawn and self.runs_of(row, column)
        )
        others = ", ".join(dict.fromkeys(names))
        return [f"not shown, {why}: {others}"] if others else []

    def over_epochs(self, metric: str, row: str, column: Column) -> pd.DataFrame:
        """A metric by epoch and seed; empty where none of the cell's runs logged it."""
        if metric not in self.history:
            return pd.DataFrame()
        values, epochs = (self.history[name].to_numpy() for name in (metric, metrics.EPOCH))
        lines = {seed: self._lines.get(run_id, []) for seed, run_id in self.runs_of(row, column).items()}
        found = {seed: pd.Series(values[at], epochs[at]) for seed, at in lines.items()}
        return pd.DataFrame(found, dtype=float).dropna(axis=1, how="all")

    @cached_property
    def _lines(self) -> dict[Any, Any]:
        """Where in the history the lines of each run are."""
        return dict(self.history.groupby("run_id").indices)

    def since(self, epoch: int) -> View:
        """The view of the epochs from one on.

        Raises:
            NothingToDraw: no run has as many.
        """
        epochs = self.history[metrics.EPOCH]
        last = epochs[self.history["run_id"].isin(self.cells["run_id"])].max()  # NaN where none logged any
        if epoch > last:
            raise NothingToDraw(f"start={epoch}: the runs have {counted(int(last), 'epoch')}")
        return dataclasses.replace(self, history=self.history[epochs >= epoch])

    def looks(self, rows: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The look of each row, the student alone in black."""
        alone = next((row for row in rows if self.scores.rows[row] == ALONE), None)
        return style.looks(rows, plain=alone)

    def config_of(self, row: str, column: Column) -> dict[str, Any]:
        """The configuration of a cell, its first seed's."""
        return dict(self.runs["config"][self.scores.ids(row, column)[0]])


def one_protocol(
    logs: Logs,
    methods: Sequence[str],
    pairs: Sequence[str],
    protocol: str | None,
    epoch: Epoch,
    variants: bool = True,
) -> View:
    """The view of logs, where what is asked for is of one protocol.

    Raises:
        UserError: no run counts, or several protocols are there.
    """
    selection = select(logs.runs, epoch=epoch, methods=methods, variants=variants, pairs=pairs, protocol=protocol)
    if selection.cells.empty:
        raise NothingToDraw(f"no complete run to draw{why_nothing(logs, selection)}")
    counts = selection.cells.groupby("protocol")["run_id"].nunique()
    if len(counts) > 1:
        told = "\n".join(f"  {name} ({counted(count, 'run')})" for name, count in counts.items())
        raise UserError(
            f"runs of several protocols never share a figure; choose protocol=, a part of its name:\n{told}"
        )
    return View(selection.cells, logs.runs, logs.history, epoch, tuple(remarks(logs, selection)))


def spread(counts: Sequence[int], what: str) -> str:
    """A note on spread: `what` with its number of seeds, as in "over 2 to 3 seeds", or that there is none."""
    low, high = min(counts), max(counts)
    if high == 1:
        return "one seed: no spread is known"
    return f"{what} over {high if low == high else f'{low} to {high}'} seeds"
