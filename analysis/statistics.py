"""How sure a difference is: paired over seeds, ranked over pairs. Arrays in, numbers and arrays out.

Standard deviations are those of a sample (n - 1). Whatever is drawn comes from the generator that is given. Where
there are too few values for a test its p-value is NaN, never a number that means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.metrics import DIGITS, MIN_SEEDS

Array = npt.NDArray[np.float64]
Interval = tuple[float, float]

MIN_PAIRS_WILCOXON = 6  # with fewer, no outcome of Wilcoxon's two-sided test is below 0.05
CONFIDENCE = 0.95  # of all intervals
RESAMPLES = 9999
NOTHING: Interval = (np.nan, np.nan)


@dataclass(frozen=True)
class Difference:
    """A paired difference.

    Attributes:
        n: matched values.
        mean, std: of the difference; the latter NaN for one value.
        interval_t: of the mean, by Student's t.
        interval_bootstrap: of the mean, by percentiles of resamples.
        p: of the two-sided paired t test; NaN where there is none.
    """

    n: int
    mean: float
    std: float
    interval_t: Interval
    interval_bootstrap: Interval
    p: float


def std(values: Array) -> float:
    """Standard deviation of a sample; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def vary(values: Array) -> bool:
    """Whether values differ by more than rounding: accuracies that differ by one image each may do so by 1e-14."""
    return bool(np.round(np.ptp(values), DIGITS))


def interval_t(values: Array) -> Interval:
    """Student's interval of the mean; none where nothing varies: few equal values are no certainty."""
    if len(values) < MIN_SEEDS or not vary(values):
        return NOTHING
    half = stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def interval_bootstrap(values: Array, generator: np.random.Generator) -> Interval:
    """Percentile bootstrap interval of the mean; of few seeds it is narrower than it should be.

    The bias-corrected and accelerated one is no remedy: with three values its ends hang on rounding.
    """
    if len(values) < MIN_SEEDS or not vary(values):  # then every resample is the sample
        return NOTHING
    result = stats.bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=generator, method="percentile"
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_difference(difference: Array, generator: np.random.Generator) -> Difference:
    """What the differences of two methods, one for each seed, tell.

    Args:
        difference: `[n]`, at least one.
        generator: for the bootstrap.
    """
    return Difference(
        len(difference),
        float(np.mean(difference)),
        std(difference),
        interval_t(difference),
        interval_bootstrap(difference, generator),
        paired_p(difference),
    )


def paired_p(difference: Array) -> float:
    """p of the two-sided paired t test; NaN below `MIN_SEEDS`, and where all differ by the same."""
    if len(difference) < MIN_SEEDS:
        return np.nan
    if not vary(difference):  # no spread to measure the difference by
        return np.nan if np.round(difference[0], DIGITS) else 1.0
    return float(stats.ttest_1samp(difference, 0).pvalue)


def block_t(table: Array, first: int = 0) -> tuple[Array, int]:
    """How far each column's mean is behind that of the column `first`, in standard errors; the rows are blocks.

    The error is pooled over all columns, as in the analysis of a randomised block design: three seeds of six
    methods give it ten degrees of freedom where pairs of methods give two. Where the paired differences themselves
    have the larger error, it is theirs: methods that vary more than the others are not told apart by what those
    vary. NaN for `first` itself, below `MIN_SEEDS` rows and where nothing varies beside the blocks.

    Args:
        table: [seeds, methods].
        first: a method.

    Returns:
        One for each column, and the degrees of freedom. Of two columns it is the t of the paired test.
    """
    num_seeds, num_methods = table.shape
    t, freedom = np.full(num_methods, np.nan), (num_methods - 1) * (num_seeds - 1)
    if num_seeds < MIN_SEEDS or num_methods < 2:
        return t, freedom
    means = table.mean(axis=0)
    residuals = table - means - table.mean(axis=1, keepdims=True) + table.mean()
    pooled = np.sqrt(2 * (residuals**2).sum() / freedom / num_seeds)  # of a difference of two means
    if np.round(pooled, DIGITS):  # else only rounding is left
        own = (table[:, [first]] - table).std(axis=0, ddof=1) / np.sqrt(num_seeds)
        t = (means[first] - means) / np.maximum(pooled, own)
        t[first] = np.nan
    return t, freedom


def range_p(t: Array, freedom: Array) -> Array:
    """Adjusted p-values of methods being as good as the one with the best mean, which is one of many by chance too.

    Step by step from the worst, each difference is taken for the range of all means that are not yet told apart
    (the studentised range in Newman's and Keuls's steps). The level is nominal: where several methods are the best
    alike, one of them is told apart as seldom as it says, however many they are, if all vary alike; with Holm's
    method, which takes the best for known beforehand, it is one of 33 in a quarter of all tables. If they vary
    unequally it is more: of a level of 0.05, with three seeds 0.1 where two methods of six vary twice as much as
    the others, and 0.24 where four of twelve vary five times as much; with five seeds 0.14 there. The degrees of
    freedom are those of the pooled error: those of each difference's own would hold the level, but with three seeds
    one of twelve methods that is ahead by four deviations would hardly ever be told apart.

    Args:
        t: how many standard errors each is behind the best; one that is ahead on the seeds compared is below 0.
        freedom: degrees of freedom of each.
    """
    order = np.argsort(-t, kind="stable")
    among = np.arange(len(t) + 1, 1, -1)  # those that are left, with the best
    p = stats.studentized_range.sf(np.sqrt(2) * np.maximum(t[order], 0), among, freedom[order])
    adjusted = np.empty(len(t))
    adjusted[order] = np.maximum.accumulate(p)
    return adjusted


def holm(p: Array) -> Array:
    """Holm's adjusted p-values (Scand. J. Statist. 6, 1979); NaN was not tested and does not count."""
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilcoxon_p(values: Array, reference: Array) -> float:
    """p of Wilcoxon's two-sided signed-rank test over pairs; NaN below `MIN_PAIRS_WILCOXON` that differ.

    Args:
        values, reference: one mean for each pair.
    """
    difference = np.round(values - reference, DIGITS)  # so that ties are ties
    if np.count_nonzero(difference) < MIN_PAIRS_WILCOXON:
        return np.nan
    return float(stats.wilcoxon(difference).pvalue)


def ranks(table: Array) -> Array:
    """Ranks of methods in each pair, 1 the highest value; equal values share the mean of their ranks.

    Args:
        table: [pairs, methods].
    """
    return stats.rankdata(-np.round(table, DIGITS), axis=1)


@dataclass(frozen=True)
class RankTest:
    """Methods ranked over pairs (Demšar, JMLR 7, 2006).

    Attributes:
        mean_ranks: of each method.
        friedman_p: of all methods being alike; NaN with fewer than three methods or two pairs.
        critical_difference: of mean ranks, by Nemenyi's test.
    """

    mean_ranks: Array
    friedman_p: float
    critical_difference: float


def rank_test(table: Array, alpha: float = 0.05) -> RankTest:
    """Friedman's test and Nemenyi's critical difference.

    Args:
        table: [pairs, methods], without gaps.
        alpha: level.
    """
    (num_pairs, num_methods), ranked = table.shape, ranks(table)
    p = np.nan
    if num_pairs > 1 and num_methods > 2:
        p = float(stats.friedmanchisquare(*ranked.T).pvalue) if np.ptp(ranked, axis=1).any() else 1.0
    quantile = stats.studentized_range.ppf(1 - alpha, num_methods, np.inf) / np.sqrt(2)
    difference = quantile * np.sqrt(num_methods * (num_methods + 1) / (6 * num_pairs))
    return RankTest(ranked.mean(axis=0), p, float(difference))


def improvement(values: list[Array], reference: list[Array]) -> float:
    """Probability that a run of one method is better than a run of another on the same pair (Agarwal et al., 2021).

    Equal runs count half; the mean over pairs.

    Args:
        values, reference: for each pair the runs of either method, any number of seeds.
    """
    chances = [
        stats.mannwhitneyu(ours, theirs, method="asymptotic").statistic / (len(ours) * len(theirs))
        for ours, theirs in zip(values, reference, strict=True)
    ]
    return float(np.mean(chances)) if chances else np.nan


def improvement_interval(values: list[Array], reference: list[Array]) -> Interval:
    """Wilson's interval of `improvement`, at the largest variance that the numbers of runs allow.

    On a pair of n and m runs that is p (1 - p) / min(n, m) (van Dantzig, 1951). Resampling would claim certainty
    where all runs of one method are better: then every resample says so, too.
    """
    counts = [min(map(len, runs)) for runs in zip(values, reference, strict=True)]
    if min(counts, default=0) < MIN_SEEDS:
        return NOTHING
    independent = len(counts) ** 2 / np.sum(1 / np.array(counts))
    chance, q = improvement(values, reference), stats.norm.ppf((1 + CONFIDENCE) / 2) ** 2 / independent
    center, half = (chance + q / 2) / (1 + q), np.sqrt(q * chance * (1 - chance) + (q / 2) ** 2) / (1 + q)
    return float(max(center - half, 0)), float(min(center + half, 1))


def relative_improvement(differences: Array, gains: Array) -> float:
    """Average relative improvement over a baseline, in percent, as CRD (ICLR 2020) defines it.

    The mean over pairs of (method - baseline) / (baseline - student alone).

    Args:
        differences: method - baseline, a mean for each pair.
        gains: baseline - student alone, likewise; all above 0, without which the quotient says nothing.
    """
    return float(np.mean(differences / gains) * 100)
