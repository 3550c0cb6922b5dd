"""Statistics against tables of the literature, enumeration and slow loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from analysis import statistics
from benchmarks import published

FLOATS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 2))
SAMPLES = st.lists(FLOATS, min_size=3, max_size=8).map(np.array)
CHANCES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=8).map(np.array)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_spread_is_that_of_a_sample():
    assert statistics.std(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(math.sqrt(5 / 3))
    assert math.isnan(statistics.std(np.array([1.0])))


def test_t_interval_and_p_of_three_seeds():
    """Student's t with two degrees of freedom: 4.3027 for 95 %, and its distribution in closed form."""
    ours, theirs = np.array([71.0, 72.0, 74.0]), np.array([70.0, 70.0, 71.0])
    difference = statistics.paired_difference(ours - theirs, generator())
    assert (difference.n, difference.mean, difference.std) == (3, 2.0, 1.0)
    half = 4.30265 / math.sqrt(3)
    assert difference.interval_t == pytest.approx((2 - half, 2 + half), abs=1e-4)
    t = 2 * math.sqrt(3)
    assert difference.p == pytest.approx(1 - t / math.sqrt(t * t + 2))


def test_too_few_seeds_give_no_interval_and_no_p():
    difference = statistics.paired_difference(np.array([1.0, 2.0]), generator())
    assert (difference.n, difference.mean) == (2, 1.5)
    assert np.isnan([*difference.interval_t, *difference.interval_bootstrap, difference.p]).all()


def test_equal_differences_are_no_certainty():
    assert statistics.paired_p(np.zeros(3)) == 1
    assert math.isnan(statistics.paired_p(np.ones(3)))
    for interval in (statistics.interval_t(np.ones(3)), statistics.interval_bootstrap(np.ones(3), generator())):
        assert np.isnan(interval).all()


IMAGES = st.lists(st.integers(300, 350), min_size=3, max_size=6, unique=True).map(np.array)


@given(IMAGES, st.integers(1, 10))
def test_equal_differences_of_images_are_no_certainty_in_floats_either(images, more):
    """Of 360 test images, where accuracies that differ by the same number of images differ by rounding, too."""
    ours, theirs = (images + more) / 360 * 100, images / 360 * 100
    difference = statistics.paired_difference(ours - theirs, generator())
    assert np.isnan([*difference.interval_t, *difference.interval_bootstrap, difference.p]).all()


@given(st.lists(st.permutations(range(5)), min_size=6, max_size=9), IMAGES.filter(lambda each: len(each) > 4))
def test_means_of_the_same_accuracies_are_tied_in_whatever_order_they_are_summed(orders, images):
    accuracies = images[:5] / 360 * 100
    means, reference = (
        np.array([sum(accuracies[order]) / 5 for order in orders]),
        np.full(len(orders), sum(accuracies) / 5),
    )
    assert math.isnan(statistics.wilcoxon_p(means, reference))
    table = np.stack([means, reference, means], axis=1)
    assert (statistics.ranks(table) == 2).all()
    assert statistics.rank_test(table).friedman_p == 1


@settings(max_examples=8)
@given(SAMPLES.filter(np.ptp))
def test_bootstrap_interval_is_within_the_sample_and_comes_from_its_generator(values):
    low, high = statistics.interval_bootstrap(values, generator())
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert (low, high) == statistics.interval_bootstrap(values, generator())
    shifted = statistics.interval_bootstrap(values + 1000, generator())
    assert shifted == pytest.approx((low + 1000, high + 1000), abs=1e-6)


@pytest.mark.parametrize(("num_seeds", "covered"), [(3, 3 / 4), (5, 5 / 6)])
def test_intervals_of_few_seeds_hold_the_mean_as_often_as_is_said_of_them(num_seeds, covered):
    draws = generator(num_seeds).normal(size=(400, num_seeds))
    for interval, share in ((statistics.interval_t, 0.95), (bootstrapped, covered)):
        ends = np.array([interval(values) for values in draws])
        assert np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) == pytest.approx(share, abs=0.04)


def bootstrapped(values):
    return statistics.interval_bootstrap(values, generator())


def test_bootstrap_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    statistics.interval_bootstrap(np.array([1.0, 2.0, 4.0]), generator())
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_bootstrap_interval_of_a_large_sample_is_the_t_interval():
    values = generator(1).normal(70, 1, size=400)
    bootstrap = statistics.interval_bootstrap(values, generator())
    assert bootstrap == pytest.approx(statistics.interval_t(values), abs=0.02)


def slow_holm(p):
    """The step-down rule as it is stated: adjusted p is the smallest level at which it is rejected."""
    tested = sorted(value for value in p if not math.isnan(value))
    adjusted = []
    for value in p:
        if math.isnan(value):
            adjusted.append(math.nan)
        else:
            place = tested.index(value)
            adjusted.append(min(1, max(tested[j] * (len(tested) - j) for j in range(place + 1))))
    return adjusted


TABLES = st.tuples(st.integers(3, 5), st.integers(2, 5), st.integers(0, 99)).map(
    lambda shape: generator(shape[2]).normal(70, 1, size=shape[:2])
)


@given(TABLES)
def test_block_test_is_the_regression_on_methods_and_seeds_or_the_paired_test_of_more_error(table):
    """Ordinary least squares with a dummy for each method but the first and for each seed."""
    seeds, methods = table.shape
    rows = [(seed, method) for seed in range(seeds) for method in range(methods)]
    design = np.array(
        [[float(s == k) for k in range(seeds)] + [float(m == k) for k in range(1, methods)] for s, m in rows]
    )
    values = np.array([table[place] for place in rows])
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    freedom = len(rows) - design.shape[1]
    variance = np.sum((values - design @ coefficients) ** 2) / freedom * np.linalg.inv(design.T @ design)
    own = [statistics.std(table[:, k] - table[:, 0]) / math.sqrt(seeds) for k in range(1, methods)]
    t, found = statistics.block_t(table)
    assert t[1:] == pytest.approx(-coefficients[seeds:] / np.maximum(np.sqrt(np.diag(variance))[seeds:], own))
    assert found == freedom
    assert math.isnan(t[0])
    swapped, _ = statistics.block_t(table[:, ::-1], first=methods - 1)
    assert swapped[::-1] == pytest.approx(t, nan_ok=True)


@given(TABLES)
def test_block_test_of_two_methods_is_the_paired_t_test(table):
    first = int(table[:, 1].mean() > table[:, 0].mean())
    t, freedom = statistics.block_t(table[:, :2], first)
    p = statistics.range_p(t[[1 - first]], np.array([freedom]))
    assert p == pytest.approx([statistics.paired_p(table[:, 1] - table[:, 0])])


def test_block_test_needs_seeds_and_variation():
    for table in (np.ones((2, 3)), np.arange(12.0).reshape(4, 3), np.ones((4, 1)), np.ones((0, 2))):
        assert np.isnan(statistics.block_t(table)[0]).all()


@pytest.mark.parametrize(("methods", "q"), [(2, 2.950), (3, 3.578), (5, 4.232), (10, 5.008)])
def test_studentised_range_from_its_tables(methods, q):
    """Five percent points of 20 degrees of freedom, as every table of them has them."""
    t = np.full(methods - 1, q / math.sqrt(2))
    p = statistics.range_p(t, np.full(methods - 1, 20))
    assert p.max() == pytest.approx(0.05, abs=2e-4)
    assert p[0] == p.max()  # of equals all are as the first


def chance_of_range(t, methods, freedom):
    """p of the worst of so many methods, all others but the best being as far behind it."""
    return statistics.range_p(np.full(methods - 1, t), np.full(methods - 1, freedom))[0]


def test_steps_begin_with_the_worst_and_each_takes_what_is_left_for_all():
    p = statistics.range_p(np.array([2.2, 9.0, 2.9]), np.full(3, 20))
    assert p == pytest.approx(
        [chance_of_range(2.2, 2, 20), chance_of_range(9.0, 4, 20), chance_of_range(2.9, 3, 20)]
    )
    p = statistics.range_p(np.array([2.9, 2.8]), np.full(2, 20))
    assert p[1] == p[0] == chance_of_range(2.9, 3, 20)  # what is nearer to the best is no surer
    assert statistics.range_p(np.array([-9.0]), np.array([20])) == [1]


@pytest.mark.parametrize(
    ("methods", "best", "spread", "most"),
    [(12, 12, 1, 0.06), (12, 4, 1, 0.06), (6, 2, 2, 0.11), (12, 4, 5, 0.25)],
    ids=["all", "four", "two that vary more", "four that vary much more"],
)
def test_methods_that_are_the_best_alike_are_seldom_told_apart_however_many_they_are(methods, best, spread, most):
    """With Holm's method and the pooled error alone some are in 13, 7 and 15 % of the first three's tables."""
    scores = generator(methods).normal(size=(4000, 3, methods))
    scores[:, :, :best] *= spread
    scores[:, :, best:] -= 20
    limit = brentq(lambda t: chance_of_range(t, best, 2 * (methods - 1)) - 0.05, 1, 9)
    t = [statistics.block_t(table, int(table.mean(axis=0).argmax()))[0] for table in scores]
    assert np.mean(np.nanmax(np.array(t)[:, :best], axis=1) > limit) < most


@given(CHANCES)
def test_holm_is_the_step_down_rule(p):
    assert statistics.holm(p).tolist() == pytest.approx(slow_holm(p), nan_ok=True)


@given(st.lists(st.integers(-50, 50).filter(bool), min_size=6, max_size=8, unique_by=abs))
def test_wilcoxon_by_enumeration_of_all_signs(difference):
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    observed = abs(np.dot(np.sign(difference), ranks))
    sums = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    p = np.mean([each >= observed for each in sums])
    assert statistics.wilcoxon_p(np.array(difference, float), np.zeros(len(ranks))) == pytest.approx(p)


def test_wilcoxon_needs_six_pairs():
    assert math.isnan(statistics.wilcoxon_p(np.arange(1.0, 6), np.zeros(5)))
    assert statistics.wilcoxon_p(np.arange(1.0, 7), np.zeros(6)) == pytest.approx(2 / 2**6)
    assert math.isnan(statistics.wilcoxon_p(np.arange(6.0), np.zeros(6)))  # one does not differ


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_from_demsars_table(k, q):
    table = generator().normal(size=(14, k))
    expected = q * math.sqrt(k * (k + 1) / (6 * 14))
    assert statistics.rank_test(table).critical_difference == pytest.approx(expected, abs=1e-3)


def test_friedman_by_its_formula():
    table = generator().normal(size=(9, 4))
    ranks = np.array([[1 + sum(other > value for other in row) for value in row] for row in table])
    mean_ranks = ranks.mean(axis=0)
    chi = 12 * 9 / (4 * 5) * (np.sum(mean_ranks**2) - 4 * 25 / 4)
    result = statistics.rank_test(table)
    assert result.mean_ranks == pytest.approx(mean_ranks)
    # The distribution of chi-square with three degrees of freedom in closed form.
    tail = math.erfc(math.sqrt(chi / 2)) + math.sqrt(2 * chi / math.pi) * math.exp(-chi / 2)
    assert result.friedman_p == pytest.approx(tail)
    tied = np.vstack([table, np.ones(4)])  # a pair on which all are alike tells nothing
    assert statistics.rank_test(tied).friedman_p == pytest.approx(tail)
    assert math.isnan(statistics.rank_test(table[:, :2]).friedman_p)
    assert math.isnan(statistics.rank_test(table[:1]).friedman_p)
    assert statistics.rank_test(np.ones((9, 4))).friedman_p == 1


def test_ranks_count_from_the_highest_and_share_ties():
    assert statistics.ranks(np.array([[70.0, 72.0, 70.0], [1.0, 2.0, 3.0]])).tolist() == [[2.5, 1, 2.5], [3, 2, 1]]


@given(SAMPLES, SAMPLES)
def test_probability_of_improvement_counts_all_pairs_of_runs(ours, theirs):
    better = [(a > b) + 0.5 * (a == b) for a in ours for b in theirs]
    chance = statistics.improvement([ours], [theirs])
    assert chance == pytest.approx(np.mean(better))
    assert chance + statistics.improvement([theirs], [ours]) == pytest.approx(1)


def test_probability_of_improvement_is_a_mean_over_pairs():
    high, low = np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])
    assert statistics.improvement([high, low], [low, high]) == 0.5


@given(st.lists(SAMPLES, min_size=1, max_size=3), st.lists(SAMPLES, min_size=3, max_size=3))
def test_interval_of_the_probability_of_improvement_is_where_the_score_test_accepts(values, reference):
    """At its ends the estimate is off by 1.96 standard errors, of the variance at that end."""
    reference = reference[: len(values)]
    chance, interval = (f(values, reference) for f in (statistics.improvement, statistics.improvement_interval))
    counts = [min(map(len, runs)) for runs in zip(values, reference, strict=True)]
    assert 0 <= interval[0] <= chance <= interval[1] <= 1
    for end in interval:
        if 0 < end < 1:
            variance = sum(end * (1 - end) / count for count in counts) / len(counts) ** 2
            assert abs(chance - end) == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6, abs=1e-9)
    low, high = statistics.improvement_interval(reference, values)
    assert interval == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("num_pairs", [1, 2])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_interval_of_the_probability_of_improvement_covers_it_with_three_seeds(num_pairs, shift):
    """Of normal scores, also where all runs of a sample are likely to be better: there all resamples are alike."""
    draws = generator(shift).normal(size=(500, 2, num_pairs, 3))
    truth = math.erfc(-shift / 2) / 2
    found = [statistics.improvement_interval(list(ours + shift), list(theirs)) for ours, theirs in draws]
    assert np.mean([low <= truth <= high for low, high in found]) > 0.93


def test_runs_that_are_all_better_are_no_certainty_where_they_are_few():
    """Of two times three runs a rank test cannot tell at 0.05 that one method is better."""
    better, worse = np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])
    low, high = statistics.improvement_interval([better], [worse])
    assert low < 0.5
    assert high == 1
    for few in ([better[:2]], [better, better[:2]]):
        assert np.isnan(statistics.improvement_interval(few, [worse] * len(few))).all()


def test_relative_improvement_is_what_crd_reports():
    """CRD's abstract: a relative improvement of 57 % over KD, on average over its thirteen pairs."""
    figures = [figure for figure in published.figures() if figure.source.startswith("CRD")]
    top1 = {(figure.teacher, figure.student, figure.method): figure.top1 for figure in figures}
    pairs = list(dict.fromkeys((figure.teacher, figure.student) for figure in figures))
    assert len(pairs) == 13
    crd, kd, alone = (np.array([top1[*pair, method] for pair in pairs]) for method in ("crd", "kd", "student"))
    assert statistics.relative_improvement(crd - kd, kd - alone) == pytest.approx(57, abs=0.5)


def test_relative_improvement_is_a_mean_over_pairs():
    differences = np.array([1.0, 3.0])
    assert statistics.relative_improvement(differences, np.array([1.0, 1.0])) == pytest.approx((100 + 300) / 2)
