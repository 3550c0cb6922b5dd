"""Which cells of a column are set bold, and which is underlined: no more than tests of the seeds can say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis import statistics
from analysis.cells import BEST, SECOND, Column
from analysis.scores import Scores

FEW_SEEDS = f"fewer than {statistics.MIN_SEEDS} shared seeds"
NO_SPREAD = "the same difference in all seeds"


@dataclass(frozen=True)
class Marks:
    """The marks of a column.

    Attributes:
        by_row: of the rows that have one.
        untested: why rows have no part in them, where any have none.
    """

    by_row: Mapping[str, str]
    untested: tuple[str, ...]


def marks_of(scores: Scores, column: Column, alpha: float) -> Marks:
    """The marks of a column's rows.

    The best row and those that are not told apart from it: in blocks of seeds, the p that `statistics.range_p`
    adjusts for all such comparisons is at least `alpha`. The second in rank only where one row alone is best: below
    several there is no second place. A row that cannot be tested against the best has no mark, and is no rival
    either.
    """
    seeds = {row: scores.of(row, column).keys() for row in scores.methods if scores.of(row, column)}
    enough = [row for row in seeds if len(seeds[row]) >= statistics.MIN_SEEDS]
    if not enough:
        return Marks({}, (FEW_SEEDS,) if seeds else ())
    first = max(enough, key=lambda row: scores.worth(row, column))
    behind = scores.behind(first, column)
    tested = {row: found for row, found in behind.items() if not math.isnan(found[0])}
    untested = (
        FEW_SEEDS if len(seeds[row] & seeds[first]) < statistics.MIN_SEEDS else NO_SPREAD
        for row in seeds
        if row not in (first, *tested)
    )
    return Marks(_marked(scores, column, first, tested, alpha), tuple(dict.fromkeys(untested)))


def _marked(
    scores: Scores, column: Column, first: str, tested: Mapping[str, tuple[float, int]], alpha: float
) -> dict[str, str]:
    """By how many standard errors each tested row is behind the first, with their degrees of freedom."""
    if not tested:
        return {}
    chances = statistics.range_p(*np.array(list(tested.values())).T)
    alike = [row for row, chance in zip(tested, chances, strict=True) if chance >= alpha]
    if alike:
        return dict.fromkeys((first, *alike), BEST)
    means = {row: round(scores.worth(row, column), 2) for row in tested}  # as it is printed
    return {first: BEST} | {row: SECOND for row, mean in means.items() if mean == max(means.values())}
