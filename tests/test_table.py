"""Comparison tables: what stands in them, in every format, and what is behind it."""

import csv
import dataclasses
import html.parser
import importlib
import io
import itertools
import json
import math
import pydoc
import re
import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from light import assert_light
from logged import grid, logged, logs_of
from rich.console import Console

import analysis
from analysis import formats, parquet, statistics
from analysis.cells import BEST, SECOND, Cell
from analysis.comparison import family
from analysis.grid import Entry, Grid, number, of_table
from analysis.provenance import configuration_hash
from analysis.scores import Scores
from analysis.selection import select
from analysis.settings import Epoch, Format, Layout, PublishedRows
from analysis.significance import grids
from analysis.table import COMMAND
from analysis.tables import compare
from benchmarks.cli import main
from benchmarks.config import DataConfig, TrainConfig

VGG, WRN, MOBILE = "vgg13_vgg8", "wrn40_2_wrn16_2", "vgg13_mobilenetv2"
SCORES = {
    ("none", VGG): [69.8, 70.2, 70.3],
    ("kd", VGG): [72.8, 73.0, 73.3],
    ("at", VGG): [71.0, 71.4, 71.5],
    ("aftkd", VGG): [73.9, 74.0, 74.4],
    ("none", WRN): [73.1, 73.3, 73.4],
    ("kd", WRN): [74.8, 75.0, 75.1],
    ("at", WRN): [74.1, 74.0, 74.3],
    ("aftkd", WRN): [75.2, 75.6, 75.5],
}


def only(runs, **layout):
    """The one table of runs."""
    (table,) = compare(logs_of(runs), Layout(**layout)).tables
    return table


def row(table, kind, name):
    (found,) = [row for row in table.section(kind).rows if row.name == name]
    return found


def values(row):
    return [cell.value for cell in row.cells]


def test_cells_are_means_with_sample_deviations_and_their_runs():
    table = only(grid(SCORES))
    assert [column.name for column in table.columns] == [WRN, VGG]  # the field's order
    assert [row.name for row in table.section("methods").rows] == ["kd", "at", "aftkd"]
    cell = row(table, "methods", "kd").cells[1]
    assert cell.value == pytest.approx(np.mean(SCORES["kd", VGG]))
    assert cell.std == pytest.approx(np.std(SCORES["kd", VGG], ddof=1))
    assert cell.n == 3
    assert cell.runs == tuple(f"kd-{VGG}-{seed}-0" for seed in range(3))


def test_references_stand_apart_and_are_not_marked():
    table = only(grid(SCORES))
    assert [row.name for row in table.section("reference").rows] == ["teacher", "student alone"]
    assert values(row(table, "reference", "teacher")) == [74.0, 74.0]
    assert values(row(table, "reference", "student alone")) == pytest.approx([73.2667, 70.1], abs=1e-3)
    assert not [cell.mark for row in table.section("reference").rows for cell in row.cells if cell.mark]


def test_teachers_of_their_own_seeds_have_a_spread_too_and_the_table_says_so():
    accuracies = [74.0, 75.0, 76.0]
    own = [{"taught_by": {"seed": seed}, "teacher": str(seed) * 64} for seed in range(3)]
    runs = [
        logged("kd", seed=seed, **own[seed], teacher_top1=top1, attempt=attempt, created=float(attempt))
        for seed, top1 in enumerate(accuracies)
        for attempt in (0, 1)  # which measured the same teacher
    ]
    table = only(runs)
    (cell,) = row(table, "reference", "teacher").cells
    assert (cell.value, cell.std, cell.n) == (75.0, pytest.approx(1.0), 3)
    assert cell.runs == tuple(f"kd-{VGG}-{seed}-1" for seed in range(3))
    assert any(note.startswith("teacher ±: each seed has a teacher of its own") for note in table.notes)
    assert not any("of its own" in note for note in only(runs[:2]).notes)


def test_the_teachers_accuracy_is_the_one_that_was_measured_last():
    runs = [logged(name, created=float(k), teacher_top1=70.0 + k) for k, name in enumerate(("kd", "at", "sp"))]
    for ordered in (runs, runs[::-1]):
        (cell,) = row(only(ordered), "reference", "teacher").cells
        assert (cell.value, cell.runs) == (72.0, (f"sp-{VGG}-0-0",))


def test_gain_is_matched_by_seed():
    runs = [logged("none", seed=0, top1=60), logged("none", seed=1, top1=70), logged("none", seed=5, top1=10)]
    runs += [logged("kd", seed=1, top1=71), logged("kd", seed=0, top1=63), logged("kd", seed=7, top1=99)]
    (cell,) = row(only(runs), "gain", "kd").cells
    assert (cell.value, cell.n) == (2, 2)
    assert cell.std == pytest.approx(math.sqrt(2))
    (cell,) = row(only(runs[:1] + runs[3:4]), "gain", "kd").cells
    assert not cell.there  # no seed in common


def test_best_and_second_are_marked_and_what_cannot_be_told_apart_alike():
    table = only(grid(SCORES))
    marks = {row.name: [cell.mark for cell in row.cells] for row in table.section("methods").rows}
    assert marks == {"kd": [SECOND, SECOND], "at": ["", ""], "aftkd": [BEST, BEST]}
    assert any(
        "nominal level 0.05, two to five times that where methods vary very unequally" in n for n in table.notes
    )
    close = grid(
        {("kd", VGG): [72.0, 73.0, 74.0], ("at", VGG): [72.5, 72.8, 74.5], ("sp", VGG): [60.0, 61.5, 61.0]}
    )
    marks = {row.name: row.cells[0].mark for row in only(close).section("methods").rows}
    assert marks == {"kd": BEST, "at": BEST, "sp": ""}  # below two that are best there is no second
    assert not any("underlined" in note for note in only(close).notes)


@given(st.lists(st.lists(st.floats(50, 90), min_size=4, max_size=4), min_size=2, max_size=5))
def test_an_underline_is_the_second_in_rank_below_one_that_is_best_alone(scores):
    names = ["kd", "at", "sp", "cc", "vid"]
    table = only(grid({(name, VGG): each for name, each in zip(names, scores, strict=False)}))
    cells = [row.cells[0] for row in table.section("methods").rows]
    ranked = sorted((round(cell.value, 2) for cell in cells), reverse=True)
    best, second = ([cell for cell in cells if cell.mark == mark] for mark in (BEST, SECOND))
    assert not best or max(cell.value for cell in cells) in [cell.value for cell in best]
    assert bool(second) == (len(best) == 1)
    assert all(round(cell.value, 2) == ranked[1] for cell in second)


def test_rows_whose_means_are_printed_alike_are_underlined_alike():
    scores = {("kd", VGG): [80.0, 81.0, 82.5], ("at", VGG): [70.0, 70.9, 72.1], ("sp", VGG): [70.003, 70.9, 72.1]}
    marks = {row.name: row.cells[0].mark for row in only(grid(scores)).section("methods").rows}
    assert marks == {"kd": BEST, "at": SECOND, "sp": SECOND}


def scores_of(values):
    """Of rows given as {name: {seed: value}}."""
    runs = logs_of(
        [logged(name, seed=seed, top1=top1) for name, row in values.items() for seed, top1 in row.items()]
    )
    return Scores(select(runs.runs).cells, runs.runs)


def test_seeds_are_paired_by_their_number_not_by_order():
    scores = scores_of({"kd": {2: 70.0, 0: 71.0, 1: 72.0}, "at": {1: 60.0, 2: 61.0, 5: 62.0, 0: 63.0}})
    (column,) = scores.columns
    both = scores.paired(["kd", "at"], column)
    assert both.index.tolist() == [0, 1, 2]
    assert both.to_numpy().tolist() == [[71.0, 63.0], [72.0, 60.0], [70.0, 61.0]]
    assert scores.difference("kd", "kd", column).value == 0
    assert scores.paired(["kd", "sp"], column).shape == (0, 2)
    assert scores.paired([], column).shape == (0, 0)


def behind(values):
    """How far each row is behind kd, of rows given as {name: {seed: value}}."""
    scores = scores_of(values)
    return {name: t for name, (t, _) in scores.behind("kd", scores.columns[0]).items()}


def drawn(seeds, generator):
    return dict(zip(seeds, generator.normal(70, 1, len(seeds)), strict=True))


NUMBERS = st.integers(0, 9999).map(np.random.default_rng)
FEWER = st.sets(st.integers(0, 6), max_size=6).filter(lambda seeds: not seeds >= set(range(5)))


@given(NUMBERS, st.lists(FEWER, max_size=3))
def test_a_row_that_lacks_seeds_takes_part_in_no_comparison_but_its_own(generator, fewer):
    whole = {name: drawn(range(5), generator) for name in ("kd", "at", "crd")}
    others = {
        name: drawn(sorted(seeds), generator) for name, seeds in zip(("sp", "cc", "vid"), fewer, strict=False)
    }
    found = behind(whole | others)
    balanced, _ = statistics.block_t(np.array([list(row.values()) for row in whole.values()]).T)
    assert [found[name] for name in whole] == pytest.approx(balanced, nan_ok=True)
    for name, row in others.items():
        shared = sorted(row.keys() & whole["kd"].keys())
        if row:
            pool = [each for each in (whole | others).values() if each.keys() >= set(shared)]
            expected, _ = statistics.block_t(
                np.array([[each[seed] for each in pool] for seed in shared]).reshape(-1, len(pool))
            )
            assert found[name] == pytest.approx(expected[pool.index(row)], nan_ok=True)


@given(NUMBERS)
def test_a_row_that_has_the_seeds_of_two_others_tells_more_of_their_error(generator):
    rows = {
        "kd": drawn(range(4), generator),
        "at": drawn(range(1, 5), generator),
        "crd": drawn(range(5), generator),
    }
    table = np.array([[row[seed] for row in rows.values()] for seed in range(1, 4)])
    assert behind(rows)["at"] == pytest.approx(statistics.block_t(table)[0][1])
    alone = behind({name: rows[name] for name in ("kd", "at")})["at"]
    assert alone == pytest.approx(statistics.block_t(table[:, :2])[0][1])


def test_rows_with_few_seeds_do_not_change_the_marks_of_others():
    scores = {("kd", VGG): [70.0, 71.0, 72.0, 73.0], ("at", VGG): [70.2, 70.9, 72.3, 60.0]}
    runs = [run for run in grid(scores) if not (run.config["method"]["name"] == "at" and run.config["seed"] == 3)]
    runs += [logged("sp", seed=seed, top1=top1) for seed, top1 in ((2, 90.0), (9, 91.0))]
    marks = {row.name: row.cells[0].mark for row in only(runs).section("methods").rows}
    assert marks == {"sp": "", "kd": BEST, "at": BEST}  # sp has two seeds


def test_a_row_that_is_ahead_on_the_seeds_that_both_have_is_not_told_apart():
    """Whatever others of the best row's seeds do for its mean."""
    runs = [logged("kd", seed=seed, top1=top1) for seed, top1 in enumerate([70.0, 71.0, 72.0, 80.0, 81.0])]
    runs += [logged("at", seed=seed, top1=top1) for seed, top1 in enumerate([72.0, 73.1, 74.1])]
    assert {row.name: row.cells[0].mark for row in only(runs).section("methods").rows} == {"kd": BEST, "at": BEST}


def test_alpha_decides_what_is_told_apart():
    runs = grid({("kd", VGG): [72.0, 73.0, 74.0], ("at", VGG): [72.5, 73.4, 74.7]})  # p = 0.03
    assert [row.cells[0].mark for row in only(runs).section("methods").rows] == [SECOND, BEST]
    assert [row.cells[0].mark for row in only(runs, alpha=0.01).section("methods").rows] == [BEST, BEST]


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_no_test_compares_has_no_marks_and_the_table_says_so(seeds):
    table = only(grid({("kd", VGG): [72.0, 73.0][:seeds], ("at", VGG): [82.0, 81.0][:seeds]}))
    assert {row.cells[0].mark for row in table.section("methods").rows} == {""}
    assert "no marks: fewer than 3 shared seeds cannot be tested" in table.notes
    assert not any("bold" in note or "underlined" in note for note in table.notes)
    assert not any("cannot be tested" in note for note in only(grid(SCORES)).notes)


@pytest.mark.parametrize(("seeds", "noted"), [([0, 1, 2], False), ([0, 1], False), ([1, 2, 3], True), ([3], True)])
def test_rows_of_other_seeds_are_noted(seeds, noted):
    runs = [logged("kd", seed=seed, top1=70.0 + seed) for seed in range(3)]
    runs += [logged("at", seed=seed, top1=71.0 - seed**2) for seed in seeds]
    assert any("rows of a column have different seeds" in note for note in only(runs).notes) == noted


def test_what_has_no_spread_to_be_tested_by_has_no_marks_and_the_table_says_so():
    table = only(grid({("kd", VGG): [72.0, 73.0, 74.5], ("at", VGG): [72.5, 73.5, 75.0]}))
    assert {row.cells[0].mark for row in table.section("methods").rows} == {""}
    assert "no marks: the same difference in all seeds cannot be tested" in table.notes


def test_one_that_cannot_be_tested_beside_others_that_can_is_left_out_of_the_marks():
    table = only([*grid(SCORES), logged("sp", seed=0, top1=99.0)])
    marks = {row.name: row.cells[1].mark for row in table.section("methods").rows}
    assert marks == {"kd": SECOND, "at": "", "aftkd": BEST, "sp": ""}
    assert "no mark: fewer than 3 shared seeds cannot be tested" in table.notes


def test_a_single_method_is_not_best_of_anything():
    assert row(only([logged("kd")]), "methods", "kd").cells[0].mark == ""


def test_aggregates_are_the_relative_gain_and_the_mean_rank_over_pairs():
    table = only(grid(SCORES))
    assert table.aggregates == ("over kd, %", "mean rank")
    means = {key: np.mean(value) for key, value in SCORES.items()}
    relative = [
        (means["aftkd", pair] - means["kd", pair]) / (means["kd", pair] - means["none", pair])
        for pair in (VGG, WRN)
    ]
    assert row(table, "methods", "aftkd").aggregates == pytest.approx((100 * np.mean(relative), 1.0))
    assert np.isnan(row(table, "methods", "kd").aggregates[0])
    assert [row.aggregates[1] for row in table.section("methods").rows] == [2, 3, 1]


def test_aggregates_need_a_value_in_every_column():
    scores = {key: value for key, value in SCORES.items() if key != ("at", WRN)}
    table = only(grid(scores))
    assert np.isnan(row(table, "methods", "at").aggregates).all()
    assert [row.aggregates[1] for row in table.section("methods").rows if row.name != "at"] == [2, 1]
    assert not row(table, "methods", "at").cells[0].there


def test_aggregates_of_methods_with_other_seeds_are_paired_by_seed():
    """Seeds differ by ten points here, methods by one or half a one."""
    scores = {("none", pair): [60.0, 70.0, 80.0] for pair in (VGG, WRN)}
    scores |= {("kd", pair): [61.0, 71.0, 81.1] for pair in (VGG, WRN)}
    late = [logged("at", pair, seed=2, top1=81.6) for pair in (VGG, WRN)]
    early = [logged("sp", pair, seed=0, top1=60.5) for pair in (VGG, WRN)]
    table = only([*grid(scores), *late])
    gain = np.mean([1.0, 1.0, 1.1])
    assert row(table, "methods", "at").aggregates == pytest.approx((100 * 0.5 / gain, 1.0))
    assert any(note.endswith("which are not all that some have") for note in table.notes)
    apart = only([*grid(scores), *early, *late])
    assert apart.aggregates == ("over kd, %",)  # no seed to rank all three by
    assert any(note.startswith("no mean rank: ") and VGG in note for note in apart.notes)


@pytest.mark.parametrize(
    ("kd", "there"),
    [([70.0, 71.2, 72.5], False), ([73.0, 71.3, 70.0], False), ([71.0, 72.5, 73.5], True), ([73.0], False)],
)
def test_nothing_is_measured_by_a_gain_that_is_no_more_than_seeds_differ_by(kd, there):
    scores = {("none", VGG): [69.9, 71.0, 72.6], ("kd", VGG): kd, ("at", VGG): [74.0, 75.0, 76.0]}
    table = only(grid(scores))
    assert ("over kd, %" in table.aggregates) == there
    assert any(note.startswith(f"no column 'over kd, %': on {VGG}") for note in table.notes) == (not there)
    alone = only(grid({key: values for key, values in scores.items() if key[0] != "kd"}))
    assert not any("over kd" in note for note in alone.notes)


def test_missing_cells_are_visible():
    scores = {key: value for key, value in SCORES.items() if key != ("at", WRN)}
    shown = of_table(only(grid(scores)))
    at = next(row for _, rows in shown.blocks for row in rows if row[0].text == "at")
    assert at[1].text == "–"
    assert any(note.startswith("–:") for note in shown.notes)


def test_architectures_are_tables_of_their_own():
    scores = SCORES | {("kd", MOBILE): [65.0], ("none", MOBILE): [64.0]}
    tables = compare(logs_of(grid(scores))).tables
    assert [table.title.split(":")[0] for table in tables] == ["same architecture", "different architectures"]
    assert [[column.pair for column in table.columns] for table in tables] == [[WRN, VGG], [MOBILE]]
    (table,) = compare(logs_of(grid(scores)), Layout(groups=False)).tables
    assert len(table.columns) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("resnet110", "resnet20", True),
        ("resnet32x4", "resnet8x4", True),
        ("wrn_40_2", "wrn_16_2", True),
        ("ResNet50", "vgg8", False),
        ("resnet32x4", "ShuffleV1", False),
        ("ResNet50", "resnet20", False),
    ],
)
def test_families_are_told_by_the_networks_names(one, other, same):
    assert (family(one) == family(other)) == same


def test_protocols_are_tables_of_their_own():
    runs = [*grid(SCORES), *grid({("kd", VGG): [60.0]}, epochs=3)]
    tables = compare(logs_of(runs)).tables
    assert len({table.protocol for table in tables}) == len(tables) == 2
    assert sorted(len(table.columns) for table in tables) == [1, 2]


def test_published_figures_stand_in_rows_of_their_own_with_their_source():
    table = only(grid(SCORES), published=PublishedRows.shown)
    published = table.section("published")
    assert [row.name for row in published.rows] == ["teacher", "student alone", "kd", "at"]
    assert all(row.source.startswith("CRD (Tian et al., ICLR 2020)") for row in published.rows)
    assert values(row(table, "published", "kd")) == [74.92, 72.98]
    assert values(row(table, "difference", "kd")) == pytest.approx([74.96667 - 74.92, 73.03333 - 72.98], abs=1e-4)
    assert values(row(table, "difference", "teacher")) == pytest.approx([74 - 75.61, 74 - 74.64])
    assert not [row.name for row in table.section("difference").rows if row.name == "aftkd"]
    assert any("240 epochs" in note and "2 epochs" in note for note in table.notes)
    text = of_table(table)
    assert any(row[0].text == "kd [1]" for _, rows in text.blocks for row in rows)
    assert text.notes[-1].startswith("[1] CRD")


def test_a_published_figure_is_compared_with_its_own_form_of_the_method():
    """CRD's figures of CC are RepDistiller's form, which is not the default here."""
    default, theirs = (
        only([logged("cc", settings={"form": form}), logged("none")], published=PublishedRows.shown)
        for form in ("kernel", "adjacent")
    )
    assert [row.name for row in default.section("published").rows][
        -1
    ] == "cc (form=adjacent weights.cc=0.02, else as usual)"
    assert "cc" not in [row.name for row in default.section("difference").rows]
    assert [row.name for row in theirs.section("published").rows][-1] == "cc"
    assert "cc" in [row.name for row in theirs.section("difference").rows]


def test_a_published_figure_is_compared_pair_by_pair_where_its_settings_depend_on_the_pair():
    """RepDistiller's hints pass a ReLU, which here they do not where the teacher's map is signed."""
    of_vgg = logged("fitnet", VGG, top1=72.0, settings={"activation": "relu"})
    signed, rectified = (
        only(
            [of_vgg, logged("fitnet", WRN, top1=74.0, settings={"activation": each})], published=PublishedRows.shown
        )
        for each in ("linear", "relu")
    )
    assert values(row(signed, "published", "fitnet (activation=relu, else as usual)")) == [73.58, 71.02]
    assert values(row(rectified, "published", "fitnet")) == [73.58, 71.02]
    assert [cell.there for cell in row(signed, "difference", "fitnet").cells] == [False, True]
    for table, differences in (
        (signed, [pytest.approx(0.98)]),
        (rectified, [pytest.approx(each) for each in (0.42, 0.98)]),
    ):
        assert [cell.value for cell in row(table, "difference", "fitnet").cells if cell.there] == differences


def test_forms_of_a_published_row_are_told_once_each():
    """Also those of pairs whose runs have them: the row is of all."""
    usual, of_vgg8 = "factor=spatial weights.ft=200.0", "factor=spatial weights.ft=200.0 paraphraser_lr=0.05"
    spatial = {"factor": "spatial", "weights": {"ce": 1.0, "ft": 200.0}, "paraphraser_lr": 0.01}
    for settings, compared in (({"factor": "whole"}, False), (spatial, True)):
        runs = [logged("ft", pair, settings=settings) for pair in (VGG, WRN, "resnet56_resnet20")]
        table = only(runs, published=PublishedRows.shown)
        names = {name: [row.name for row in table.section(name).rows] for name in ("published", "difference")}
        assert f"ft ({usual} or {of_vgg8}, else as usual)" in names["published"]
        assert ("ft" in names["difference"]) == compared


def test_a_method_of_other_settings_than_the_usual_says_so_and_is_not_compared_with_the_published_figure():
    runs = grid({("kd", VGG): [72.0, 73.0, 74.0], ("at", VGG): [70.0, 71.0, 70.5]})
    for run in runs[:3]:
        run.config["unusual"] = ["method.temperature=8.0", "loss.schedule=cosine"]
    table = only(runs, published=PublishedRows.shown)
    assert "kd is not as usual: method.temperature=8.0 loss.schedule=cosine" in table.notes
    assert "kd (standardise=false, else as usual)" in [row.name for row in table.section("published").rows]
    assert "kd" not in [row.name for row in table.section("difference").rows]
    assert "at" in [row.name for row in table.section("difference").rows]
    for run in runs[3:]:
        run.config["unusual"] = ["method.p=1.0"]
    assert "at (as usual)" in [
        row.name for row in only(runs, published=PublishedRows.shown).section("published").rows
    ]
    for run in runs[:3]:
        run.config["label"] = "soft"  # a name of its own says that it is a variant
    assert not any("temperature" in note for note in only(runs).notes)


def test_all_published_figures_on_request():
    table = only(grid(SCORES), published=PublishedRows.all)
    names = [row.name for row in table.section("published").rows]
    assert {"crd", "dkd", "fitnet"} <= set(names)
    assert "crd" not in [row.name for row in table.section("difference").rows]
    assert only(grid(SCORES)).section("published") is None


def test_rows_stand_as_they_were_asked_for_else_as_in_the_literature():
    runs = [logged("kd", settings={"temperature": each}, id=f"at {each}") for each in (4.0, 8.0)]
    runs += [logged(method) for method in ("aftkd", "at", "none")]
    cold, hot = "kd (temperature=4.0)", "kd (temperature=8.0)"
    for asked, expected in (
        ([], [cold, hot, "at", "aftkd"]),
        (["at", "none", "kd"], ["at", cold, hot]),
        ([hot, "aftkd", "kd", "none"], [hot, "aftkd", cold]),
        (["kd", "aftkd", cold, "none"], [hot, "aftkd", cold]),
    ):
        table = only(runs, methods=asked)
        for section in ("methods", "gain"):
            assert [row.name for row in table.section(section).rows] == expected
    table = only(grid(SCORES), methods=["at", "kd", "none"], published=PublishedRows.shown)
    assert [row.name for row in table.section("published").rows] == ["teacher", "student alone", "at", "kd"]


def test_published_figures_are_of_the_test_set_only():
    runs = [logged("kd", validation=0.1)]
    assert only(runs, published=PublishedRows.shown).section("published") is None


def test_a_variant_is_not_compared_with_the_published_method():
    runs = [logged("kd", label="soft"), logged("kd", settings={"temperature": 8.0}, label="kd8")]
    runs += [logged("aftkd", label="kd", seed=3)]
    table = only(runs, published=PublishedRows.shown)
    assert not [row for row in table.section("difference").rows if row.name in ("soft", "kd8", "kd")]


def test_best_epoch_is_marked_as_such():
    table = only([logged(top1=70, best=71)], epoch=Epoch.best)
    assert row(table, "methods", "kd").cells[0].value == 71
    assert "BEST epoch" in table.title
    assert any("flatters" in note for note in table.notes)
    assert "last epoch" in only([logged()]).title


def test_the_note_on_seeds_names_brackets_only_where_there_are_some():
    three, one = grid({("kd", VGG): [72.0, 73.0, 74.0], ("none", VGG): [62.0, 63.0, 64.0]}), logged("at")
    assert "mean ± sample standard deviation over 3 seeds" in only(three).notes
    assert "mean ± sample standard deviation over 3 seeds unless (n) is given" in only([*three, one]).notes
    assert "one seed per cell: no spread is known" in only([one]).notes
    few = [logged(name) for name in ("sp", "cc", "vid", "pkt")]
    explained = "one seed per cell unless (n) is given: no spread is known; ±: sample standard deviation"
    assert explained in only([*three[:3], *few]).notes


def test_cells_are_written_as_mean_deviation_and_seeds():
    runs = [*grid({("kd", VGG): [72.0, 73.0, 74.0], ("at", VGG): [70.5]})]
    entries = {row[0].text: row[1].text for _, rows in of_table(only(runs)).blocks for row in rows}
    assert entries["kd"] == "73.00 ± 1.00"
    assert entries["at"] == "70.50 (1)"
    assert entries["teacher"] == "74.00"
    assert number(-1.234, signed=True) == "−1.23"
    assert number(1.235, signed=True) == "+1.24"
    assert number(math.nan) == "–"
    assert [number(value, signed=True) for value in (-0.004, 0.0, 0.004)] == ["0.00"] * 3


def test_every_row_is_compared_with_the_reference_on_pairs_and_over_them():
    result = compare(logs_of(grid(SCORES)), Layout(compare="kd"))
    on_pairs, over_pairs = result.grids[-2:]
    (head,), ((_, rows),) = on_pairs.head, on_pairs.blocks
    lines = [dict(zip(head, (entry.text for entry in row), strict=True)) for row in rows]
    (line,) = [line for line in lines if (line["method"], line["pair"]) == ("aftkd", VGG)]
    assert (line["seeds"], line["difference"]) == ("3", "+1.07")
    assert line["95%, t"].startswith("+0.92 to ")
    assert float(line["p"].lstrip("< ")) <= 0.05
    assert {line["method"] for line in lines} == {"student alone", "at", "aftkd"}
    (_, rows), (head,) = over_pairs.blocks[0], over_pairs.head
    (line,) = [dict(zip(head, (e.text for e in row), strict=True)) for row in rows if row[0].text == "aftkd"]
    assert line["pairs"] == "2"
    assert line["p"] == "– (too few pairs)"
    assert line["P(better)"] == "1.00"
    assert re.fullmatch(r"0\.\d\d to 1\.00", line["95%, Wilson"])  # a probability has no sign
    assert any("critical difference" in note for note in over_pairs.notes)


def test_an_adjusted_p_beside_an_interval_that_is_not_is_explained():
    scores = {(name, VGG): [71.0, 72.4, 73.6] for name in ("at", "sp", "cc", "vid")}  # p = 0.02 each by itself
    scores["kd", VGG] = [70.0, 71.0, 72.0]
    logs = logs_of(grid(scores))
    (result,) = compare(logs, Layout(compare="kd")).comparisons
    clashing = [each for each in result.on_pairs if each.difference.interval_t[0] > 0 and each.difference.p > 0.05]
    assert clashing
    (note,) = [note for note in grids(result, {})[0].notes if "by itself" in note]
    assert "adjusted for all in this table: p can exceed 0.05 although the interval leaves out 0" in note


def test_statistics_over_pairs_take_all_architectures_together():
    pairs = ["vgg13_vgg8", WRN, MOBILE, "resnet50_vgg8", "resnet56_resnet20", "wrn40_2_shufflev1"]
    scores = {
        (method, pair): [70 + shift + k / 10 + seed for seed in range(3)]
        for k, pair in enumerate(pairs)
        for method, shift in (("kd", 0), ("at", 1 + k / 7), ("sp", 3 + k / 7))
    }
    (result,) = compare(logs_of(grid(scores)), Layout(compare="kd")).comparisons
    assert {(each.row, each.num_pairs) for each in result.over_pairs} == {("at", 6), ("sp", 6)}
    assert [each.p for each in result.over_pairs] == pytest.approx([2 * 2 / 2**6] * 2)  # Holm's of two tests
    assert result.mean_ranks == {"kd": 3, "at": 2, "sp": 1}


@given(NUMBERS, st.sets(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 5), min_size=1))
def test_over_pairs_the_difference_is_the_mean_of_those_on_pairs(generator, here, there):
    """Whatever seeds one of the methods lacks: those of the other would tell of seeds, not of methods."""
    runs = [logged("kd", pair, seed, generator.normal(70, 1)) for pair in (VGG, WRN) for seed in range(4)]
    for pair, seeds in ((VGG, here), (WRN, there)):
        runs += [logged("at", pair, seed, generator.normal(71, 1)) for seed in sorted(seeds)]
    (result,) = compare(logs_of(runs), Layout(compare="kd")).comparisons
    (over,) = result.over_pairs
    assert over.num_pairs == len(result.on_pairs)
    if result.on_pairs:
        assert over.difference == pytest.approx(np.mean([each.difference.mean for each in result.on_pairs]))
    else:
        assert math.isnan(over.difference)


def test_a_method_without_another_has_no_rank():
    logs = logs_of(grid({key: scores for key, scores in SCORES.items() if key[0] in ("none", "kd")}))
    (result,) = compare(logs, Layout(compare="none")).comparisons
    assert (result.mean_ranks, result.ranks) == ({}, None)


def test_statistics_of_too_few_seeds_say_so():
    logs = logs_of(grid({("kd", VGG): [70, 71], ("at", VGG): [71, 73]}))
    *_, on_pairs, _ = compare(logs, Layout(compare="kd")).grids
    ((_, ((*_, t, bootstrap, p),)),) = on_pairs.blocks
    assert (t.text, bootstrap.text, p.text) == ("–", "–", "– (2 seeds)")


def test_seeds_that_all_differ_by_the_same_are_not_called_too_few():
    logs = logs_of(grid({("kd", VGG): [70, 71, 73], ("at", VGG): [71, 72, 74]}))
    *_, on_pairs, _ = compare(logs, Layout(compare="kd")).grids
    ((_, ((*_, p),)),) = on_pairs.blocks
    assert p.text == "– (no spread)"
    logs = logs_of(grid({("kd", VGG): [70, 71, 73], ("at", VGG): [70, 71, 73]}))
    *_, on_pairs, _ = compare(logs, Layout(compare="kd")).grids
    ((_, ((*_, p),)),) = on_pairs.blocks
    assert p.text == "1.000"
    assert on_pairs.notes[-1].endswith("or if all seeds give the same difference (p is 1 if that is 0)")


@pytest.mark.parametrize("reference", ["kd", "none"])
def test_the_student_alone_has_one_name_in_all_tables_and_no_rank(reference):
    text = compare(logs_of(grid(SCORES)), Layout(compare=reference)).render("markdown")
    assert not re.search(r"\bnone\b(?! below)", text)
    assert "nan" not in text
    assert ("mean rank: among 3 methods with a value on every pair, kd 2.0; " in text) == (reference == "kd")
    assert text.count("| student alone |") == (1 if reference == "none" else 4)  # with two pairs


def test_statistics_are_reproducible_and_follow_the_seed():
    logs = logs_of(grid({("kd", VGG): [0.0] * 9, ("sp", VGG): [k**2.5 for k in range(9)]}))
    one, same, other = (compare(logs, Layout(compare="kd", seed=seed)).grids for seed in (0, 0, 1))
    assert one == same
    assert one != other


# Formats

HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    r"\input{x}",
    "100 % $x_1^2$ & #~{",
    "[b]x[/b]",
    "“ü–é” 漢字 😀",
    "".join(map(chr, range(0xC0, 0x100))),  # accented letters, and others of Latin-1
    "*x* `y` τΩ",
]


def hostile_grid(names=HOSTILE):
    rows = tuple(
        (Entry(name), Entry("−1.00 ± 0.10", Cell(mark=mark)))
        for name, mark in zip(names, [BEST, SECOND] * 4, strict=False)
    )
    return Grid("; ".join(names), (("", *names[:1]),), ((names[-1], rows),), tuple(names), "a protocol")


class Texts(html.parser.HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_html_shows_every_name_as_it_is(names):
    read = Texts(formats.html_table(hostile_grid(names)))
    assert read.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "u", "ul", "li"}
    for name in names:
        assert name in "".join(read.texts)


def test_html_page_asks_nobody_for_anything():
    page = formats.html_page([hostile_grid()])
    assert "<script" not in page
    assert not re.search(r"(src|href)\s*=|url\(|@import", page)
    assert '<meta charset="utf-8">' in page


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=4))
def test_markdown_tables_keep_their_shape(names):
    lines = formats.markdown([hostile_grid(names)]).split("\n")
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 3 + min(len(names), 8)
    for line in table:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
    escaped = [re.sub(r"\\(.)", r"\1", line) for line in table]
    for name, line in zip(names, escaped[3:], strict=True):
        assert name in line


def test_every_format_shows_the_marks():
    grids = [hostile_grid(["one", "two"])]
    assert "**−1.00 ± 0.10**" in formats.markdown(grids)
    assert "<u>−1.00 ± 0.10</u>" in formats.markdown(grids)
    assert r"\textbf{$-$1.00 $\pm$ 0.10}" in formats.latex(grids)
    assert r"\underline{$-$1.00 $\pm$ 0.10}" in formats.latex(grids)
    assert "<strong>−1.00 ± 0.10</strong>" in formats.html_page(grids)
    assert "*−1.00 ± 0.10*" in formats.text(grids)
    assert "_−1.00 ± 0.10_" in formats.text(grids)
    out = io.StringIO()
    formats.terminal(grids, Console(file=out, force_terminal=True, color_system="standard"))
    assert "\x1b[1m−1.00 ± 0.10" in out.getvalue()
    assert "\x1b[4m−1.00 ± 0.10" in out.getvalue()


def test_terminal_cuts_no_number_off():
    pairs = [f"pair {k}" for k in range(30)]
    row = (Entry("kd"), *(Entry(f"7{k}.00 ± 0.10") for k in range(30)))
    out = io.StringIO()
    formats.terminal([Grid("t", (("", *pairs),), (("", (row,)),), (), "a protocol")], Console(file=out, width=80))
    assert all(entry.text in out.getvalue() for entry in row)
    assert "…" not in out.getvalue()


def test_terminal_takes_names_as_they_are():
    shown = formats.text([hostile_grid()])
    assert all(name in shown for name in HOSTILE)


def test_latex_floats_have_labels_of_their_own_and_captions_without_hashes():
    runs = [*grid(SCORES), *grid({("kd", VGG): [70.0]}, train={"batch_size": 32})]
    result = compare(logs_of(runs), Layout(compare="kd"))
    text = result.render(Format.latex)
    labels, captions = (re.findall(rf"\\{word}{{(.*)}}", text) for word in ("label", "caption"))
    assert len(labels) == len(captions) == len(set(labels)) == len(result.grids)
    assert "tab:cifar100-test-2-epochs-fp32-same-architecture" in labels
    hashes = {table.protocol.split()[-1] for table in result.tables}
    assert len(hashes) == 2
    assert not any(each in text for each in hashes)
    assert all(each in result.render(Format.markdown) for each in hashes)  # there protocols are to be told apart


@pytest.mark.parametrize(("pairs", "wide"), [([VGG], False), ([VGG, WRN], True)])
def test_latex_floats_are_as_wide_as_a_column_where_that_is_enough(pairs, wide):
    runs = [run for run in grid(SCORES) if run.config["pair"]["name"] in pairs]
    text = compare(logs_of(runs)).render(Format.latex)
    assert len(only(runs).aggregates) == len(pairs)
    assert re.findall(r"\\(?:begin|end){(table\*?)}", text) == ["table*" if wide else "table"] * 2


@given(st.lists(st.integers(1, 2 * formats.ROWS + 1), min_size=1, max_size=5))
def test_latex_floats_hold_every_row_once_and_are_no_longer_than_a_page(sizes):
    blocks = [(f"part {b}", tuple((Entry(f"row {b} {k}"),) for k in range(size))) for b, size in enumerate(sizes)]
    text = formats.latex([Grid("t", (("",),), tuple(blocks), ("a note",), "a protocol")])
    pages = [re.findall(r"row (\d+) (\d+)", page) for page in text.split(r"\end{table}")[:-1]]
    assert [row for page in pages for row in page] == [
        (str(b), str(k)) for b, size in enumerate(sizes) for k in range(size)
    ]
    assert all(0 < len(page) <= formats.ROWS for page in pages)
    for page, after in itertools.pairwise(pages):
        divided = page[-1][0] == after[0][0]
        assert 2 * len(page) >= formats.ROWS
        assert len(page) == formats.ROWS or not divided  # a block goes on only behind a full page
        if divided and (before := sum(block != page[-1][0] for block, _ in page)):
            assert 2 * before < formats.ROWS  # and is divided only where the page would be less than half full
    assert text.count("a note") == 1
    assert text.count("(continued)") == len(pages) - 1


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def typeset(folder, options=""):
    """Set `table.tex` of a folder by itself, and what LaTeX logged."""
    preamble = rf"\documentclass{options}{{article}}\usepackage{{booktabs,graphicx}}"
    (folder / "paper.tex").write_text(rf"{preamble}\begin{{document}}\input{{table}}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "paper.log").read_text(errors="replace")


@needs_latex
def test_latex_compiles(tmp_path):
    runs = [*grid(SCORES), *(logged("kd", label=name, seed=k) for k, name in enumerate(HOSTILE))]
    result = compare(logs_of(runs), Layout(compare="kd", published=PublishedRows.shown))
    (tmp_path / "table.tex").write_text(result.render(Format.latex) + formats.latex([hostile_grid()]))
    assert "Missing character" not in typeset(tmp_path)
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "-layout", "paper.pdf"], cwd=tmp_path, check=True, timeout=60)
        text = (tmp_path / "paper.txt").read_text()
        assert "a|b" in text
        assert "<script>alert(1)</script>" in text
        assert "100 % $x" in text
        assert "τ" in text


@cache
def table_of_several_pages():
    """In LaTeX."""
    pairs = [VGG, WRN, "resnet56_resnet20", "resnet110_resnet32", "vgg13_mobilenetv2", "resnet32x4_shufflev1"]
    names = ["none", "kd", *(f"method {k}" for k in range(formats.ROWS))]
    scores = {(name, pair): [70.0 + k, 70.5, 71.0] for k, name in enumerate(names) for pair in pairs}
    return compare(logs_of(grid(scores)), Layout(compare="kd", published=PublishedRows.shown)).render(Format.latex)


@needs_latex
@pytest.mark.parametrize("options", ["", "[twocolumn]", "[11pt]"])
def test_latex_tables_stay_within_the_paper(options, tmp_path):
    (tmp_path / "table.tex").write_text(table_of_several_pages())
    log = typeset(tmp_path, options)
    assert "Overfull" not in log
    assert "too large" not in log


def test_csv_has_every_digit_and_the_runs():
    result = compare(logs_of(grid(SCORES)), Layout(published=PublishedRows.shown))
    lines = list(csv.DictReader(io.StringIO(result.render(Format.csv))))
    (line,) = [each for each in lines if (each["section"], each["row"], each["pair"]) == ("methods", "kd", VGG)]
    assert float(line["value"]) == np.mean(SCORES["kd", VGG])
    assert float(line["std"]) == np.std(SCORES["kd", VGG], ddof=1)
    assert line["runs"].split() == [f"kd-{VGG}-{seed}-0" for seed in range(3)]
    assert (line["n"], line["mark"], line["teacher"], line["student"]) == ("3", "second", "vgg13", "vgg8")
    (line,) = [each for each in lines if (each["section"], each["row"], each["pair"]) == ("published", "kd", VGG)]
    assert line["source"].startswith("CRD")
    assert not any(line[key] for key in ("std", "n", "mark", "runs", "low", "high", "p"))


def test_csv_has_the_differences():
    result = compare(logs_of(grid(SCORES)), Layout(compare="kd"))
    lines = [line for line in csv.DictReader(io.StringIO(result.render("csv"))) if "kd" in line["section"]]
    assert len(lines) == 6
    (line,) = [line for line in lines if (line["row"], line["pair"]) == ("aftkd", VGG)]
    differences = np.subtract(SCORES["aftkd", VGG], SCORES["kd", VGG])
    assert float(line["value"]) == pytest.approx(differences.mean())
    assert (float(line["std"]), line["n"]) == (pytest.approx(differences.std(ddof=1)), "3")
    assert (float(line["low"]), float(line["high"])) == pytest.approx(statistics.interval_t(differences))
    assert 0 < float(line["p"]) < 0.05


def test_csv_names_the_student_alone_as_one_everywhere():
    for reference in ("kd", "none"):
        result = compare(logs_of(grid(SCORES)), Layout(compare=reference))
        lines = list(csv.DictReader(io.StringIO(result.render("csv"))))
        names = {line["row"] for line in lines} | {line["section"].removeprefix("difference to ") for line in lines}
        assert "student alone" in names
        assert "none" not in names


# Provenance


def test_provenance_names_the_runs_behind_every_cell():
    runs = [
        *grid(SCORES),
        logged("kd", seed=9, status="failed", id="crashed"),
        *grid({("kd", VGG): [1.0]}, epochs=9)[:1],
    ]
    runs[-1].id = "longer"
    result = compare(logs_of(runs), Layout(protocol="2 epochs"))
    account = json.loads(json.dumps(result.provenance()))
    assert {each["run"]: each["reason"].split(":")[0] for each in account["excluded"]} == {
        "crashed": "failed",
        "longer": "another protocol",
    }
    assert "last epoch" in account["rule"]
    (table,) = account["tables"]
    (cell,) = [
        cell for cell in table["cells"] if (cell["section"], cell["row"], cell["column"]) == ("methods", "kd", VGG)
    ]
    assert [run["seed"] for run in cell["runs"]] == [0, 1, 2]
    assert [run["top1"] for run in cell["runs"]] == SCORES["kd", VGG]
    assert np.mean([run["top1"] for run in cell["runs"]]) == cell["value"]
    assert {run["commit"] for run in cell["runs"]} == {"f" * 40}
    assert len({run["configuration"] for run in cell["runs"]}) == 3  # the seed is part of it
    (cell,) = [
        cell for cell in table["cells"] if (cell["section"], cell["row"], cell["column"]) == ("gain", "kd", VGG)
    ]
    assert len(cell["runs"]) == 6
    assert all(cell["runs"] for cell in table["cells"] if cell["value"] is not None)


def test_provenance_is_strict_json_where_one_machine_had_no_git():
    runs = grid({("kd", VGG): [70.0, 71.0, 72.0]})
    del runs[1].config["code"]["commit"]
    account = json.loads(json.dumps(compare(logs_of(runs)).provenance(), allow_nan=False))
    assert [run["commit"] for run in account["tables"][0]["cells"][-1]["runs"]] == ["f" * 40, None, "f" * 40]


@pytest.mark.parametrize("train", [{"device": "cuda"}, {"threads": 8}, {"deterministic": True}])
def test_cells_of_several_machines_are_named(train):
    runs = [logged("kd"), logged("kd", seed=1, train=train), logged("at"), logged("sp", seed=1, train=train)]
    (remark,) = compare(logs_of(runs)).remarks
    assert remark.startswith(f"averaged over several machines or settings of one: kd on {VGG}: ")
    assert len(set(remark.split(": ")[-1].split("; "))) == 2
    assert not compare(logs_of(runs[:1] + runs[2:])).remarks


def with_code(run, sources, method=None, before=()):
    """A run as a version of the code logs it; `method`: that of the method's own file."""
    codes = [
        {"sources": one} | ({"method_sources": own} if own else {}) for one, own in (*before, (sources, method))
    ]
    run.config["code"] = codes[-1] | ({"before": codes[:-1]} if before else {})
    return run


def test_rows_that_average_several_versions_of_the_code_are_marked_and_named():
    runs = [with_code(logged("kd", seed=seed), f"version {seed}") for seed in range(3)]
    runs += [with_code(logged("at", seed=seed), "version 1") for seed in range(3)]
    runs += [with_code(logged("sp"), "version 1", before=[("version 0", None)])]
    result = compare(logs_of(runs))
    (table,) = result.tables
    assert {row.name: row.versions for row in table.section("methods").rows} == {"kd": 3, "at": 1, "sp": 2}
    shown = of_table(table)
    assert [row[0].text for row in shown.blocks[1][1]] == ["kd †", "at", "sp †"]
    (note,) = [note for note in shown.notes if note.startswith("† versions of the code among a cell's runs")]
    assert "kd 3, sp 2; whether the method's own file is the same is not known" in note
    assert result.differences == [f"averaged over several versions of the code: kd on {VGG}, sp on {VGG}"]


def test_rows_of_different_versions_of_the_code_are_told_apart():
    runs = [with_code(logged(name), "version 1" if name == "at" else "version 0") for name in ("kd", "at", "sp")]
    (remark,) = compare(logs_of(runs)).differences
    assert set(remark.removeprefix("compared over several versions of the code: ").split(" | ")) == {"at", "kd, sp"}
    assert not any("†" in note for note in compare(logs_of(runs)).tables[0].notes)


def test_a_method_that_was_edited_between_its_runs_is_a_row_for_each_version():
    versions = ["aaaaaa000000", "aaaaaa000000", "bbbbbb000000", None]
    runs = [
        with_code(logged("sp", seed=seed, top1=70 + seed), f"of {version}", version)
        for seed, version in enumerate(versions)
    ]
    runs += [with_code(logged("sp", seed=9), "c", "bbbbbb000000", before=[("a", "aaaaaa000000")])]
    result = compare(logs_of(runs))
    rows = {row.name: row.cells[0] for row in result.tables[0].section("methods").rows}
    assert {name: cell.n for name, cell in rows.items()} == {
        "sp (code=aaaaaa)": 2, "sp (code=bbbbbb)": 1, "sp (code=aaaaaa+bbbbbb)": 1, "sp (code=–)": 1
    }  # fmt: skip
    assert rows["sp (code=aaaaaa)"].value == 70.5
    assert any("sp: the method's own file was changed" in remark for remark in result.differences)


def test_a_method_edited_between_pairs_is_another_row_and_one_of_older_logs_is_not():
    runs = [with_code(logged("kd", pair), pair, own) for pair, own in ((VGG, "aaaaaa"), (WRN, "bbbbbb"))]
    assert [row.name for row in only(runs).section("methods").rows] == ["kd (code=aaaaaa)", "kd (code=bbbbbb)"]
    table = only(runs, published=PublishedRows.shown)  # each version is the method itself
    assert values(row(table, "published", "kd")) == [74.92, 72.98]
    differences = [values(row(table, "difference", f"kd (code={own})")) for own in ("aaaaaa", "bbbbbb")]
    assert differences == [
        pytest.approx([math.nan, 70 - 72.98], nan_ok=True),
        pytest.approx([70 - 74.92, math.nan], nan_ok=True),
    ]
    runs = [with_code(logged("kd", seed=seed), "same", own) for seed, own in enumerate(("aaaaaa", None))]
    assert [(row.name, row.cells[0].n) for row in only(runs).section("methods").rows] == [("kd", 2)]


def with_network(run, *versions):
    """A run as versions of network and data set computed it, one after the other; None: an older log."""
    codes = [{"sources": "123456abcdef"} | ({"network_sources": each} if each else {}) for each in versions]
    run.config["code"] |= codes[-1] | ({"before": codes[:-1]} if codes[:-1] else {})
    return run


def test_runs_of_an_edited_network_or_data_set_are_rows_of_their_own():
    versions = ["bbbbbb000000", "bbbbbb000000", "aaaaaa000000", None]
    runs = [
        with_network(logged("sp", seed=seed, top1=70 + seed, created=seed), version)
        for seed, version in enumerate(versions)
    ]
    runs += [with_network(logged("sp", seed=9, created=9), "bbbbbb000000", "aaaaaa000000")]
    runs += [with_network(logged("none", created=5), "bbbbbb000000")]
    result = compare(logs_of(runs))
    rows = {row.name: row.cells[0] for row in result.tables[0].section("methods").rows}
    assert {name: cell.n for name, cell in rows.items()} == {
        "sp (network/data=aaaaaa)": 1, "sp (network/data=bbbbbb)": 2,
        "sp (network/data=bbbbbb+aaaaaa)": 1, "sp (network/data=–)": 1,
    }  # fmt: skip
    assert rows["sp (network/data=bbbbbb)"].value == 70.5
    (remark,) = [each for each in result.differences if "data set was changed" in each]
    assert remark.startswith(f"{VGG}: a file of the student network or of the data set was changed between runs")
    assert "network/data=bbbbbb of sp, none; network/data=aaaaaa of sp; network/data=bbbbbb+aaaaaa of sp" in remark
    chosen = compare(logs_of(runs), Layout(methods=["sp (network/data=bbbbbb)"])).tables[0].section("methods").rows
    assert [row.name for row in chosen] == ["sp (network/data=bbbbbb)"]


def test_networks_of_several_pairs_and_of_older_logs_are_no_versions_of_one():
    runs = [with_network(logged("kd", pair), own) for pair, own in ((VGG, "aaaaaa"), (WRN, "bbbbbb"))]
    result = compare(logs_of(runs))
    assert [row.name for row in result.tables[0].section("methods").rows] == ["kd"]
    assert not result.differences
    runs = [with_network(logged("kd", seed=seed), own) for seed, own in enumerate(("aaaaaa", None))]
    assert [(row.name, row.cells[0].n) for row in only(runs).section("methods").rows] == [("kd", 2)]


def test_a_pair_whose_network_was_edited_leaves_the_names_of_others():
    networks = [(VGG, "aaaaaa"), (VGG, "bbbbbb"), (WRN, "cccccc")]
    runs = [with_network(logged("kd", pair, seed), own) for seed, (pair, own) in enumerate(networks)]
    rows = only(runs).section("methods").rows
    assert [row.name for row in rows] == ["kd", "kd (network/data=aaaaaa)", "kd (network/data=bbbbbb)"]


@pytest.mark.parametrize(
    ("networks", "told"),
    [
        ("aaa", "; the network's and the data set's own files are the same"),
        (["a", "a", None], "; whether the network's and the data set's own files are the same is not known"),
        ([None] * 3, ""),
    ],
)
def test_of_one_version_of_method_network_and_data_set_the_table_says_so(networks, told):
    runs = [with_code(logged("kd", seed=seed), f"version {seed}", method="a" * 12) for seed in range(3)]
    for run, network in zip(runs, networks, strict=True):
        run.config["code"] |= {"network_sources": network * 12} if network else {}
    (note,) = [note for note in only(runs).notes if note.startswith("†")]
    assert note == f"† versions of the code among a cell's runs: kd 3; the method's own file is the same{told}"


def test_of_a_student_alone_too_it_is_said_whether_its_file_is_the_same():
    runs = [with_code(logged("none", seed=seed), f"version {seed}") for seed in range(3)]
    runs += [with_code(logged("kd", seed=seed), "version 0", method="a" * 12) for seed in range(3)]
    (note,) = [note for note in only(runs).notes if note.startswith("†")]
    assert "student alone 3; whether the method's own file is the same is not known" in note


def test_several_versions_of_torch_are_named_as_the_runs_began():
    runs = [logged(seed=seed, created=seed) for seed in range(4)]
    assert not compare(logs_of(runs)).remarks
    for run, version in zip(runs, ("2.9.0", "2.13.0", "2.9.0"), strict=False):
        run.config["environment"]["libraries"] = {"torch": version}
    (remark,) = compare(logs_of(runs)).remarks
    assert remark == "the runs are of several versions of torch: 2.9.0, 2.13.0"
    assert not compare(logs_of(runs[2:])).remarks


def test_of_many_cells_of_several_machines_a_few_are_named():
    runs = [logged(name, seed=seed, train={"threads": seed + 1}) for name in "abcde" for seed in (0, 1)]
    (remark,) = compare(logs_of(runs)).remarks
    assert remark.count(f" on {VGG}") == 3
    assert "2 more: a processor, 1 thread; a processor, 2 threads" in remark


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (part, field)
        for part, of in (("train", TrainConfig), ("data", DataConfig))
        for field in dataclasses.fields(of)
    ],
    ids=lambda each: getattr(each, "name", each),
)
def test_the_hash_of_a_configuration_is_of_all_that_can_change_the_result(part, field):
    config = logged().config
    other = config | {part: config[part] | {field.name: "another"}}
    assert (configuration_hash(config) != configuration_hash(other)) == field.metadata.get("identity", True)


# The command


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "logs.parquet"
    parquet.save(logs_of([*grid(SCORES), logged("kd", seed=9, status="failed", id="crashed")]), path)
    return path


def command(*words):
    return main(COMMAND, list(words))


def test_command_prints_a_table_and_what_was_left_out(exported, capsys):
    assert command(f"source={exported}") == 0
    shown = capsys.readouterr().out
    assert not re.search(" $", shown, flags=re.M)
    assert "73.03 ± 0.25" in shown
    assert "note: crashed left out: failed" in shown
    assert command(f"source={exported}", "format=csv") == 0
    shown = capsys.readouterr()
    assert list(csv.DictReader(io.StringIO(shown.out)))
    assert "crashed left out" in shown.err


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "html", "csv"])
def test_rows_and_networks_have_the_names_that_a_paper_gives_them(form, exported, tmp_path, capsys):
    out = tmp_path / "table"
    words = ["names={kd: 'Hinton (1)', vgg13: VGG}", "published=shown", "compare=kd", f"format={form}"]
    assert command(f"source={exported}", f"out={out}", *words) == 0
    shown, account = out.read_text(), json.loads((tmp_path / "table.provenance.json").read_text())
    if form == "csv":  # which is for programs
        assert "Hinton" not in shown
    else:
        assert not re.search(r"\bkd\b", shown)
        assert "differences to Hinton (1) on each pair" in shown
        assert "VGG" in shown
        assert not re.search(r"vgg13(?!\\?_)", shown)  # else than in the name of a pair
    assert "Hinton" not in json.dumps(account["tables"])
    assert command(f"source={exported}", "names={krd: KD}") == 2
    assert "closest: kd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "begins"),
    [("t.tex", "% "), ("t.md", "**"), ("t.html", "<!doctype"), ("t.csv", "protocol,"), ("t.txt", "same arch")],
)
def test_command_writes_the_format_of_the_suffix_and_the_provenance(name, begins, exported, tmp_path, capsys):
    out = tmp_path / "new" / name
    assert command(f"source={exported}", f"out={out}") == 0
    assert out.read_text().startswith(begins)
    account = json.loads((out.parent / f"{name}.provenance.json").read_text())
    assert account["sources"] == [str(exported)]
    assert account["settings"]["epoch"] == "last"
    assert {path.name for path in out.parent.iterdir()} == {name, f"{name}.provenance.json"}
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source=nowhere"], "source=nowhere"),
        (["source=[]"], "source="),
        (["source=here.parquet"], "here.parquet"),
        (["out=table.docx"], ".tex"),
        (["alpha=2"], "alpha=2"),
        (["seed=-1"], "seed=-1"),
        (["epoch=first"], "epoch"),
        (["measure=f1"], "agreement"),
        (["measure=ece", "epoch=best"], "measure=ece takes no epoch=best: the best epoch is known of top1 alone"),
        (["measure=ece", "published=all"], "measure=ece takes no published figures, which are of top1"),
        (["measure=ece"], "no ece in its summary"),
        (["published=some"], "published"),
        (["methods=[dk]"], "closest: kd"),
        (["compare=dk"], "compare: unknown row in these tables 'dk'\n  closest: kd"),
        (["baseline=dk"], "closest: kd"),
        (["protocol=imagenet"], "cifar100 test 2 epochs"),
        (["metod=kd"], "methods"),
    ],
)
def test_mistakes_are_told_in_a_few_lines(words, said, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    source = [] if words[0].startswith("source") else [f"source={exported}"]
    assert command(*source, *words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.splitlines()) <= 6
    assert not shown.out
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("module", "name"),
    [("table", "taken.md"), ("export", "taken.parquet"), ("plot", "taken.png"), ("report", "taken.html")],
)
def test_where_no_file_can_be_written_commands_say_so_before_they_read(module, name, exported, tmp_path, capsys):
    out = tmp_path / name
    out.mkdir()
    words = [f"source={exported}", f"out={out}", *(["kind=curves"] if module == "plot" else [])]
    assert main(importlib.import_module(f"analysis.{module}").COMMAND, words) == 2
    assert capsys.readouterr().err == f"error: out={out} is a folder, not a file\n"
    assert {*tmp_path.iterdir()} == {out, exported}


def test_no_complete_run_says_why(tmp_path, capsys):
    path = tmp_path / "logs.parquet"
    parquet.save(logs_of([logged(status="failed"), logged(seed=1, status=None)]), path)
    assert command(f"source={path}") == 2
    shown = capsys.readouterr().err
    assert "none of 2 runs" in shown
    assert "1 run: failed" in shown
    assert "1 run: unfinished" in shown


def test_where_no_log_can_be_read_tables_and_figures_say_why(tmp_path, capsys):
    for k in range(5):
        (tmp_path / f"run-{k}.wandb").write_bytes(b"torn")
    for module, words in (("table", []), ("plot", ["kind=curves", f"out={tmp_path}/a.pdf"])):
        assert main(importlib.import_module(f"analysis.{module}").COMMAND, [f"source={tmp_path}", *words]) == 2
        first, *lost = capsys.readouterr().err.splitlines()
        assert first in ("error: none of 0 runs can be shown", "error: no complete run to draw")
        assert [line.split("/")[-1].split(" ")[0] for line in lost[:3]] == [f"run-{k}.wandb" for k in range(3)]
        assert lost[3:] == ["  2 more"]


def test_help_and_mistakes_need_no_heavy_imports():
    lines = ["from benchmarks.cli import main"]
    for module in ("table", "export"):
        lines += [f"from analysis.{module} import COMMAND", "assert main(COMMAND, ['--help']) == 0"]
        for word in ("sauce=x", "source=[]", "source=nowhere", "source=nowhere.parquet", "source=tests"):
            lines += [f"assert main(COMMAND, ['{word}', 'out=x.parquet']) == 2"]
    assert_light({"torch", "pandas", "scipy", "wandb", "pyarrow", "numpy"}, *lines)


def test_runs_that_are_left_out_for_one_reason_are_named_together():
    runs = [*grid(SCORES), *(logged("at", seed=seed, status="failed", id=f"x{seed}") for seed in range(5, 10))]
    left_out = [remark for remark in compare(logs_of(runs), Layout()).remarks if "left out" in remark]
    assert left_out == ["x5, x6, x7, 2 more left out: failed (at)"]


def test_the_student_alone_is_missed_only_where_it_is_due():
    runs = [logged("kd", seed=seed) for seed in range(3)]
    for methods, rows in (([], ["teacher", "student alone"]), (["kd"], ["teacher"])):
        table = only(runs, methods=methods)
        assert [row.name for row in table.section("reference").rows] == rows
        assert any("no complete run" in note for note in table.notes) == (not methods)


def test_that_there_are_no_published_figures_is_said():
    runs = [logged("sp"), logged("none")]
    for run in runs:
        run.config["data"]["name"] = "digits"
    for published, said in ((PublishedRows.none, False), (PublishedRows.shown, True)):
        for table in compare(logs_of(runs), Layout(published=published)).tables:
            assert any("published" in note for note in table.notes) == said


def test_help_and_completion_find_what_the_package_offers():
    assert set(analysis.__all__) <= set(dir(analysis))
    text = pydoc.plain(pydoc.render_doc(analysis))
    _, functions = text.split("\nFUNCTIONS\n")
    assert all(f"\n    {name}(" in f"\n{functions}" for name in ("compare", "figure", "load", "save", "select"))
    assert all(f"\n    class {name}" in text for name in ("Layout", "Logs", "Selection", "Tables"))
    assert "__getattr__" not in text
    assert "__dir__" not in text
    assert_light({"pandas", "scipy", "wandb", "matplotlib", "torch"}, "import analysis", "dir(analysis)")


def test_the_readme_of_the_package_works_in_a_notebook(exported, tmp_path):
    logs = analysis.load([str(exported)])
    tables = analysis.compare(logs, analysis.Layout(methods=["kd", "aftkd"], compare="kd"))
    assert "kd" in tables.render("markdown")
    assert repr(tables).startswith(tables.render("terminal"))
    assert tables._repr_html_().count("<table>") == len(tables.grids)
    assert all(html.escape(remark) in tables._repr_html_() for remark in tables.remarks)
    assert tables.remarks
    with pytest.raises(
        ValueError,
        match="unknown format 'tex'\n  closest: latex\n  valid: terminal, markdown, latex, html, csv",
    ):
        tables.render("tex")
    assert len(analysis.select(logs.runs).cells) == sum(map(len, SCORES.values()))
    analysis.save(logs, str(tmp_path / "again.parquet"))
    assert len(analysis.load([str(tmp_path / "again.parquet")]).runs) == len(logs.runs)
    assert all(hasattr(analysis, name) for name in analysis.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = analysis.nothing
