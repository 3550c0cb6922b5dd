"""Which cells of a column are set bold, and which is underlined: no more than tests of the seeds can say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from analysis import statistics
from analysis.cells import BEST, SECOND, Column
from analysis.scores import Scores

FEW_SEEDS = f"fewer than {statistics.MIN_SEEDS} shared seeds"
NO_SPREAD = "the same difference in all seeds"


def mark(scores: Scores, column: Column, alpha: float) -> dict[str, str]:
    """The marks of a column's rows.

    The best row and those that are not told apart from it: in blocks of seeds, the p that `statistics.range_p`
    adjusts for all such comparisons is at least `alpha`. The second in rank only where one row alone is best: below
    several there is no second place. A row that cannot be tested against the best has no mark, and is no rival
    either.
    """
    tested = _tested(scores, column)
    if not tested:
        return {}
    chances = statistics.range_p(*np.array(list(tested.values())).T)
    first = _first(scores, column)
    alike = [row for row, chance in zip(tested, chances, strict=True) if chance >= alpha]
    if alike:
        return dict.fromkeys((first, *alike), BEST)
    means = {row: round(scores.worth(row, column), 2) for row in tested}  # as it is printed
    return {first: BEST} | {row: SECOND for row, mean in means.items() if mean == max(means.values())}


def untested(scores: Scores, column: Column) -> Iterator[str]:
    """Why a row has no part in the marks, for each that has none."""
    first, tested = _first(scores, column), _tested(scores, column)
    best = scores.of(first, column).keys() if first else set[int]()
    for row in scores.methods:
        seeds = scores.of(row, column).keys()
        if seeds and row not in (first, *tested):
            yield FEW_SEEDS if len(seeds & best) < statistics.MIN_SEEDS else NO_SPREAD


def _first(scores: Scores, column: Column) -> str:
    """The row with the best mean among those of enough seeds; nothing where there is none."""
    enough = [row for row in scores.methods if len(scores.of(row, column)) >= statistics.MIN_SEEDS]
    return max(enough, key=lambda row: scores.worth(row, column), default="")


def _tested(scores: Scores, column: Column) -> dict[str, tuple[float, int]]:
    """What `Scores.behind` tells of each row that a test can compare with the best."""
    first = _first(scores, column)
    behind = scores.behind(first, column) if first else {}
    return {row: found for row, found in behind.items() if not math.isnan(found[0])}
