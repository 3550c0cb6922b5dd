"""The measured values of one protocol, by row and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import statistics
from analysis.cells import Cell, Column
from analysis.configs import method_code_of, network_code_of, unusual_of, versions_of
from analysis.settings import Measure
from benchmarks import published
from benchmarks.pairs import PAIRS
from methods import ALONE


class Scores:
    """The measured values of one protocol and group of pairs.

    Args:
        cells: a selection's, of one protocol.
        runs: the table of runs, for the teachers.
        measure: what the values are.
    """

    def __init__(self, cells: pd.DataFrame, runs: pd.DataFrame, measure: Measure = Measure.top1) -> None:
        self.measure = measure
        self.columns = columns_of(cells)
        self.rows = _rows(cells)
        self.methods = [row for row, method in self.rows.items() if method != ALONE]
        variants = dict(zip(cells["row"], cells["variant"], strict=True))
        self._plain = [row for row, method in self.rows.items() if variants[row] == method]
        self.split = str(cells["split"].iloc[0])
        self._values: dict[tuple[str, str], dict[int, float]] = {}
        self._ids: dict[tuple[str, str], tuple[str, ...]] = {}
        for names, group in cells.groupby(["row", "column"]):
            place = (str(names[0]), str(names[1]))
            self._values[place] = dict(zip(group["seed"], group["value"], strict=True))
            self._ids[place] = tuple(group["run_id"])
        self._configs = runs["config"]
        # In the order in which the runs began.
        self._teachers = runs[["teacher_top1", "teacher_sha256"]].dropna(subset="teacher_top1")

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

    def plain(self, method: str) -> list[str]:
        """The rows that are `method` itself, one for each version of the code; a variant is another method."""
        return [row for row in self._plain if self.rows[row] == method]

    def configs(self, row: str, column: Column) -> list[Mapping[str, Any]]:
        """The configurations of a cell's runs."""
        return list(self._configs[list(self.ids(row, column))])

    def _all_configs(self, row: str) -> list[Mapping[str, Any]]:
        return [config for column in self.columns for config in self.configs(row, column)]

    def versions(self, row: str) -> int:
        """How many versions of the code are among the runs of one of a row's cells, at most."""
        cells = (map(versions_of, self.configs(row, column)) for column in self.columns)
        return max(len(frozenset[Any]().union(*found)) for found in cells)

    def is_one_method(self, row: str) -> bool:
        """Whether all of a row's runs are known to be of one version of the method's own file."""
        return _is_one(set(map(method_code_of, self._all_configs(row))))

    def is_one_network(self, row: str) -> bool:
        """Whether each cell's runs are known to be of one version of the files of student network and data set."""
        return all(map(_is_one, self._networks(row)))

    def tells_network(self, row: str) -> bool:
        """Whether any of a row's runs logged that version; older ones did not."""
        return any(versions != {None} for versions in self._networks(row))

    def _networks(self, row: str) -> list[set[str | None]]:
        """By column, where the row has runs."""
        cells = (self.configs(row, column) for column in self.columns if self.ids(row, column))
        return [set(map(network_code_of, configs)) for configs in cells]

    def unusual(self, row: str) -> list[str]:
        """What the runs of a row that is its method itself were told beyond the usual."""
        if row not in self._plain:  # a label, or the settings in its name, tell that it is a variant
            return []
        return list(dict.fromkeys(word for config in self._all_configs(row) for word in unusual_of(config) or ()))

    def worth_on_pairs(self) -> pd.DataFrame:
        """What each method of `on_every_pair` is worth on each pair, over the seeds that all of them have there.

        A line for each pair; empty where they have none in common on one.
        """
        if any(shared.empty for shared in self.shared.values()):
            return pd.DataFrame()
        return self.measure.sign * pd.DataFrame([shared.mean() for shared in self.shared.values()])

    @cached_property
    def on_every_pair(self) -> list[str]:
        """The methods that have a value in every column."""
        return [row for row in self.methods if all(self.of(row, column) for column in self.columns)]

    @cached_property
    def shared(self) -> dict[str, pd.DataFrame]:
        """Their values by the name of each column, of the seeds that all of them have there."""
        return {column.name: self.paired(self.on_every_pair, column) for column in self.columns}

    def worth(self, row: str, column: Column) -> float:
        """A cell's mean, its sign changed where less is better."""
        return self.measure.sign * self.cell(row, column).value

    def paired(self, rows: Sequence[str], column: Column) -> pd.DataFrame:
        """The values of several rows, a line for each seed that all of them have."""
        found = [self.of(row, column) for row in rows]
        seeds = sorted(set(found[0]).intersection(*found)) if found else []
        values = [[values[seed] for values in found] for seed in seeds]
        return pd.DataFrame(values, index=seeds, columns=list(rows), dtype=float)

    def differences(self, row: str, reference: str, column: Column) -> dict[int, float]:
        """A row less another by seed, of the seeds that both have."""
        both = self.paired([row, reference], column)
        return dict(zip(both.index, both.iloc[:, 0] - both.iloc[:, 1], strict=True))

    def difference(self, row: str, reference: str, column: Column) -> Cell:
        """Mean and spread of `differences`."""
        difference = np.array(list(self.differences(row, reference, column).values()))
        if not len(difference):
            return Cell()
        ids = (*self.ids(row, column), *self.ids(reference, column))
        return Cell(float(difference.mean()), statistics.std(difference), len(difference), runs=ids)

    def small_gains(self, baseline: str) -> dict[Column, Cell]:
        """What a baseline gains over the student alone where that is nothing to divide others' gains by.

        Seeds differ as much, or one seed does not tell, or it is missing; and only accuracy has a zero that counts.
        """
        if self.measure != Measure.top1:
            return dict.fromkeys(self.columns, Cell())
        gains = {column: self.difference(baseline, ALONE, column) for column in self.columns}
        return {column: gain for column, gain in gains.items() if not gain.value > gain.std}

    def behind(self, first: str, column: Column) -> dict[str, tuple[float, int]]:
        """By how many standard errors each method is behind `first`, in blocks of the seeds that both have.

        With their degrees of freedom; NaN where they share too few.
        """
        seeds = self.of(first, column).keys()
        shared = {row: frozenset(seeds & self.of(row, column).keys()) for row in self.methods}
        found = {block: self._behind(first, column, block) for block in set(shared.values())}
        return {row: found[shared[row]][row] for row in self.methods}

    def _behind(self, first: str, column: Column, seeds: frozenset[int]) -> dict[str, tuple[float, int]]:
        """In blocks of these seeds, the error pooled over the rows that have them all.

        A row that lacks some would take them from comparisons in which it has no part.
        """
        rows = [row for row in self.methods if self.of(row, column).keys() >= seeds]
        t, freedom = statistics.block_t(self.paired(rows, column).to_numpy(), rows.index(first))
        return {row: (self.measure.sign * float(each), freedom) for row, each in zip(rows, t, strict=True)}

    def teacher(self, column: Column) -> Cell:
        """The teacher's accuracy as the latest of its runs measured it; of one for each seed, mean and spread."""
        ids = {run_id for (_, name), runs in self._ids.items() if name == column.name for run_id in runs}
        measured = self._teachers[self._teachers.index.isin(ids)]
        latest = measured.groupby("teacher_sha256", dropna=False)["teacher_top1"].tail(1)
        if latest.empty:
            return Cell()
        several = len(latest) if len(latest) > 1 else 0
        return Cell(float(latest.mean()), statistics.std(latest.to_numpy()), several, runs=tuple(latest.index))


def _is_one(versions: Set[str | None]) -> bool:
    return len(versions) == 1 and not any(version is None or "+" in version for version in versions)


def columns_of(cells: pd.DataFrame) -> list[Column]:
    """In the order of the known pairs, then by name."""
    order = {pair: place for place, pair in enumerate(PAIRS)}
    rows = cells.drop_duplicates("column")[["column", "pair", "teacher", "student", "data"]]
    columns = [Column(*map(str, row)) for row in rows.itertuples(index=False)]
    return sorted(columns, key=lambda column: (order.get(column.pair, len(order)), column.name))


def _rows(cells: pd.DataFrame) -> dict[str, str]:
    """Rows and their methods, as they were asked for, then in the order of the literature, then by name."""
    known = [ALONE, *dict.fromkeys(figure.method for figure in published.figures())]
    order = {method: place for place, method in enumerate(known)}
    rows = cells[["asked", "method", "row"]].drop_duplicates().itertuples(index=False)
    places = sorted((asked, order.get(method, len(order)), method, row) for asked, method, row in rows)
    return {row: method for _, _, method, row in places}
