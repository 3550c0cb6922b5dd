"""One method against all others: over the seeds of each pair, and over pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import statistics
from analysis.cells import Column, shown
from analysis.grid import MISSING, Entry, Grid, number
from analysis.scores import Scores
from analysis.statistics import CONFIDENCE, Difference, Interval, RankTest
from benchmarks.words import counted

Called = Callable[[str], str]  # a row's name to readers


@dataclass(frozen=True)
class OnPair:
    """A method less the reference on one pair, over seeds; `difference.p` is adjusted by Holm's method."""

    row: str
    column: Column
    difference: Difference


@dataclass(frozen=True)
class OverPairs:
    """A method against the reference over pairs, by the runs of the seeds that both have there.

    Attributes:
        row: the method.
        num_pairs: pairs on which they share seeds.
        difference: mean of the pairs' mean differences.
        p: Wilcoxon's, adjusted by Holm's method; NaN where there are too few pairs.
        improvement, interval: probability that a run of the method beats one of the reference.
    """

    row: str
    num_pairs: int
    difference: float
    p: float
    improvement: float
    interval: Interval


@dataclass(frozen=True)
class Against:
    """All comparisons of one protocol with one row, and the ranks of methods that have a value on every pair.

    Attributes:
        protocol, reference: what is compared, with which row.
        unit: of the differences.
        on_pairs: over the seeds of each pair.
        over_pairs: over pairs.
        ranks: the test of these ranks; None for fewer than two methods.
        mean_ranks: of each method that is ranked.
    """

    protocol: str
    reference: str
    unit: str
    on_pairs: tuple[OnPair, ...]
    over_pairs: tuple[OverPairs, ...]
    ranks: RankTest | None
    mean_ranks: Mapping[str, float]


def against(
    protocol: str, scores: Scores, reference: str, generator: np.random.Generator, alpha: float = 0.05
) -> Against:
    """Compare every method, and the student alone, with `reference`.

    Args:
        protocol, scores: of all pairs.
        reference: a row.
        generator: for the bootstraps.
        alpha: level of the critical difference.
    """
    others = [row for row in scores.rows if row != reference]
    over_pairs = [_over_pairs(scores, row, reference) for row in others]
    adjusted = statistics.holm(np.array([each.p for each in over_pairs]))
    worth = scores.worth_on_pairs()
    ranks = statistics.rank_test(worth.to_numpy(), alpha) if len(worth.columns) > 1 else None
    return Against(
        protocol,
        reference,
        scores.measure.unit,
        tuple(_on_pairs(scores, others, reference, generator)),
        tuple(replace(each, p=float(p)) for each, p in zip(over_pairs, adjusted, strict=True)),
        ranks,
        dict(zip(worth.columns, ranks.mean_ranks, strict=True)) if ranks else {},
    )


def _on_pairs(
    scores: Scores, others: Sequence[str], reference: str, generator: np.random.Generator
) -> Iterator[OnPair]:
    on_pairs = [
        OnPair(row, column, statistics.paired_difference(np.array(list(differences.values())), generator))
        for row in others
        for column in scores.columns
        if (differences := scores.differences(row, reference, column))
    ]
    adjusted = statistics.holm(np.array([each.difference.p for each in on_pairs]))
    for each, p in zip(on_pairs, adjusted, strict=True):
        yield replace(each, difference=replace(each.difference, p=float(p)))


def _over_pairs(scores: Scores, row: str, reference: str) -> OverPairs:
    shared = (scores.paired([row, reference], column).to_numpy().T for column in scores.columns)
    both = [samples for samples in shared if samples.size]
    values, references = [ours for ours, _ in both], [theirs for _, theirs in both]
    means = np.array([ours.mean() for ours in values]), np.array([theirs.mean() for theirs in references])
    sign = scores.measure.sign
    worth = [sign * ours for ours in values], [sign * theirs for theirs in references]
    return OverPairs(
        row,
        len(both),
        float(np.mean(means[0] - means[1])) if both else math.nan,
        statistics.wilcoxon_p(*means),
        statistics.improvement(*worth),
        statistics.improvement_interval(*worth),
    )


def grids(result: Against, names: Mapping[str, str]) -> list[Grid]:
    """The comparisons as text, with these other names of rows."""

    def called(row: str) -> str:
        return names.get(shown(row), shown(row))

    return [_grid_on_pairs(result, called), _grid_over_pairs(result, called)]


def _grid_on_pairs(result: Against, called: Called) -> Grid:
    level = f"{CONFIDENCE:.0%}"
    rows = tuple(
        _entries(
            called(each.row),
            each.column.name,
            str(each.difference.n),
            number(each.difference.mean, signed=True),
            _interval(each.difference.interval_t, signed=True),
            _interval(each.difference.interval_bootstrap, signed=True),
            _p(each.difference.p, _untested(each.difference.n)),
        )
        for each in result.on_pairs
    )
    head = ("method", "pair", "seeds", "difference", f"{level}, t", f"{level}, bootstrap", "p")
    reference = called(result.reference)
    notes = (
        f"difference to {reference} in {result.unit}, paired by seed; p: paired t test, Holm over this table",
        f"an interval is for one difference by itself, while p is adjusted for all in this table: p can exceed "
        f"{1 - CONFIDENCE:.2g} although the interval leaves out 0",
        "bootstrap: too narrow with few seeds: of 3 it covers the mean in three of four cases, of 5 in five of six",
        f"no interval and no p below {statistics.MIN_SEEDS} shared seeds, or if all seeds give the same difference "
        "(p is 1 if that is 0)",
    )
    title = f"differences to {reference} on each pair"
    return Grid(title, (head,), (("", rows),), notes, result.protocol)


def _grid_over_pairs(result: Against, called: Called) -> Grid:
    rows = tuple(
        _entries(
            called(each.row),
            str(each.num_pairs),
            number(each.difference, signed=True),
            _p(each.p, "too few pairs"),
            number(each.improvement),
            _interval(each.interval),
            number(result.mean_ranks.get(each.row, math.nan), digits=1),
        )
        for each in result.over_pairs
    )
    head = ("method", "pairs", "difference", "p", "P(better)", f"{CONFIDENCE:.0%}, Wilson", "mean rank")
    title = f"against {called(result.reference)} over all pairs"
    return Grid(title, (head,), (("", rows),), _notes_over_pairs(result, called), result.protocol)


def _notes_over_pairs(result: Against, called: Called) -> tuple[str, ...]:
    reference = called(result.reference)
    notes = [
        "over the seeds that both have on a pair; p: Wilcoxon's signed-rank test on the pairs' means, Holm over "
        f"this table; fewer than {statistics.MIN_PAIRS_WILCOXON} pairs that differ cannot reach 0.05",
        f"P(better): probability that a run beats one of {reference} on the same pair, ties counting half; "
        "its interval: Wilson's, at the largest variance that so few runs allow, none below "
        f"{statistics.MIN_SEEDS} seeds",
    ]
    if result.ranks is None or math.isnan(result.ranks.friedman_p):
        notes.append("too few methods or pairs to test the ranks")
    else:
        rank = result.mean_ranks.get(result.reference)
        own = "" if rank is None else f", {reference} {rank:.1f}"
        notes.append(
            f"mean rank: among {len(result.mean_ranks)} methods with a value on every pair{own}; "
            f"Friedman p = {result.ranks.friedman_p:.2g}; "
            f"critical difference {result.ranks.critical_difference:.2f} (Nemenyi)"
        )
    return tuple(notes)


def _entries(*texts: str) -> tuple[Entry, ...]:
    return tuple(map(Entry, texts))


def _interval(interval: Interval, signed: bool = False) -> str:
    low, high = interval
    return MISSING if math.isnan(low) else f"{number(low, signed)} to {number(high, signed)}"


def _untested(num_seeds: int) -> str:
    """Why a difference has no p-value."""
    return counted(num_seeds, "seed") if num_seeds < statistics.MIN_SEEDS else "no spread"


def _p(p: float, otherwise: str) -> str:
    """A p-value, or why there is none."""
    if math.isnan(p):
        return f"– ({otherwise})"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
