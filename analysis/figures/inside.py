"""Runs' arrays by row, column and seed, with the teacher's beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.artifacts import REMEDY, Arrays, path_of
from analysis.cells import Column
from analysis.figures.view import NothingToDraw, View


@dataclass(frozen=True)
class Inside:
    """A cell's runs that wrote arrays.

    Attributes:
        row, column: of the cell.
        seeds: each run's arrays by seed.
        teacher: arrays with the teacher's in them: a run's own, for a student alone another's of its column.
    """

    row: str
    column: Column
    seeds: dict[int, Arrays]
    teacher: Arrays | None

    @property
    def seed(self) -> int:
        """The lowest."""
        return min(self.seeds)

    @property
    def arrays(self) -> Arrays:
        """Its run's."""
        return self.seeds[self.seed]


def insides(view: View, seed: int | None) -> list[Inside]:
    """All cells that have arrays, column by column.

    Args:
        seed: this one only.

    Raises:
        NothingToDraw: there are none.
    """
    found = []
    for column in view.columns:
        cells = {row: _by_seed(view, row, column, seed) for row in view.rows}
        teachers = [arrays for each in cells.values() for arrays in each.values() if "teacher/logits" in arrays]
        found += [
            Inside(row, column, each, _teacher(next(iter(each.values())), teachers))
            for row, each in cells.items()
            if each
        ]
    if not found:
        which = "" if seed is None else f" of seed {seed}"
        raise NothingToDraw(f"no arrays{which} are here: {REMEDY} (a complete run also needs rerun=true)")
    return found


def left_out(view: View, cells: Sequence[Inside]) -> list[str]:
    """A note on cells whose runs wrote no arrays, where there are any."""
    return view.not_drawn({(cell.row, cell.column) for cell in cells}, view.rows, "for want of arrays")


def _by_seed(view: View, row: str, column: Column, seed: int | None) -> dict[int, Arrays]:
    paths = {s: path_of(view.runs.loc[run_id]) for s, run_id in view.runs_of(row, column).items()}
    return {s: Arrays(path) for s, path in paths.items() if path is not None and seed in (None, s)}


def _teacher(own: Arrays, others: list[Arrays]) -> Arrays | None:
    """Arrays that hold the teacher's: its own, else another run's on the same images."""
    if "teacher/logits" in own:
        return own
    return next((each for each in others if np.array_equal(each["targets"], own["targets"])), None)
