"""Tables of something else than top-1: another value by the same rules, and less may be better."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged import logged, logs_of

from analysis.cells import BEST, SECOND
from analysis.settings import Layout, Measure
from analysis.tables import compare
from benchmarks.errors import UserError
from methods import InvalidSetting

PAIRS = ["vgg13_vgg8", "wrn40_2_wrn16_2"]
METHODS = ["none", "kd", "at", "crd"]
SCORES = st.integers(64, 64 * 99).map(lambda count: count / 64)  # less than 100 by an exact number, too
VALUES = st.lists(st.lists(SCORES, min_size=3, max_size=3), min_size=len(PAIRS) * len(METHODS), max_size=8)


def runs_of(values, measure, only=METHODS, **kwargs):
    """Three seeds of each method on each pair, whose last evaluation gave these values; top-1 tells nothing."""
    places = [(method, pair) for method in METHODS for pair in PAIRS]
    runs = []
    for (method, pair), row in zip(places, values, strict=True):
        for seed, value in enumerate(row if method in only else []):
            run = logged(method, pair, seed, top1=50.0, **kwargs)
            split = "val" if kwargs.get("validation") else "test"
            run.summary[f"{split}/{measure}"] = value
            runs.append(run)
    return runs


def made(runs, measure, **layout):
    return compare(logs_of(runs), Layout(measure=measure, groups=False, **layout))


def cells(tables, kind):
    (table,) = tables.tables
    return {
        (row.name, c.name): cell
        for row in table.section(kind).rows
        for c, cell in zip(table.columns, row.cells, strict=True)
    }


@given(VALUES, st.sampled_from([m for m in Measure if m != Measure.top1]))
def test_values_are_those_of_the_measure(values, measure):
    found = made(runs_of(values, measure), measure)
    section = cells(found, "methods")
    for k, method in enumerate(METHODS[1:], 1):
        for j, pair in enumerate(PAIRS):
            assert section[method, pair].value == pytest.approx(sum(values[2 * k + j]) / 3)
    (table,) = found.tables
    assert measure.words in table.title
    assert ("less is better" in table.notes) == (measure.sign < 0)
    assert table.section("gain").title.startswith("gain" if measure.sign > 0 else "difference")
    assert "over kd, %" not in table.aggregates  # CRD's figure is of accuracies
    assert [row.name for row in table.section("reference").rows] == [
        "student alone"
    ]  # of a teacher top-1 is logged


@given(VALUES)
@settings(max_examples=10)  # two tables each
def test_where_less_is_better_marks_ranks_and_chances_are_those_of_the_mirror_image(values):
    mirrored = [[100 - value for value in row] for row in values]
    ours = made(runs_of(values, "loss"), Measure.loss, compare="kd")
    theirs = made(runs_of(mirrored, "top5"), Measure.top5, compare="kd")
    marks = [{place: cell.mark for place, cell in cells(each, "methods").items()} for each in (ours, theirs)]
    assert marks[0] == marks[1]
    ranks = [[row.aggregates for row in each.tables[0].section("methods").rows] for each in (ours, theirs)]
    assert ranks[0] == ranks[1]
    one, other = (each.comparisons[0] for each in (ours, theirs))
    for here, there in zip(one.over_pairs, other.over_pairs, strict=True):
        assert here.improvement == there.improvement
        assert here.interval == there.interval
        assert here.difference == pytest.approx(-there.difference, abs=1e-9)
    if one.ranks:
        assert list(one.ranks.mean_ranks) == list(other.ranks.mean_ranks)
    assert "kd in nats" in ours.render("markdown")
    assert "kd in points" in theirs.render("markdown")


def test_what_is_surely_more_is_told_apart_from_the_best_where_less_is_better():
    values = [
        [level + seed + 0.1 * seed**2 * (level % 3) for seed in range(3)] for level in (9, 9, 1, 1, 40, 40, 80, 80)
    ]
    marks = {
        place: cell.mark for place, cell in cells(made(runs_of(values, "loss"), Measure.loss), "methods").items()
    }
    assert {name: marks[name, PAIRS[0]] for name in METHODS[1:]} == {"kd": BEST, "at": SECOND, "crd": ""}


def test_a_student_alone_follows_no_teacher():
    values = [[float(k + seed**2) for seed in range(3)] for k in range(8)]
    runs = runs_of(values, "agreement", only=METHODS[1:]) + [logged("none", PAIRS[0], seed) for seed in range(3)]
    found = made(runs, Measure.agreement)
    (table,) = found.tables
    assert table.section("reference") is None
    assert table.section("gain") is None
    assert sorted(found.selection.excluded["reason"].unique()) == ["no agreement in its summary"]


def test_the_split_that_was_evaluated_counts():
    values = [[float(k + seed**2) for seed in range(3)] for k in range(8)]
    runs = runs_of(values, "ece", validation=0.1)
    for run in runs:
        run.summary["test/ece"] = 99.0
    (table,) = made(runs, Measure.ece).tables
    assert "val calibration error" in table.title
    assert table.section("methods").rows[0].cells[0].value < 50


def test_what_is_no_number_is_left_out():
    runs = runs_of([[1.0, 2.0, 4.0]] * 8, "ece")
    runs[3].summary["test/ece"] = "high"
    found = made(runs, Measure.ece)
    assert found.selection.excluded["run_id"].tolist() == [runs[3].id]


def test_the_provenance_names_the_measure():
    runs = runs_of([[1.0, 2.0, 4.0]] * 8, "ece")
    account = json.loads(json.dumps(made(runs, Measure.ece).provenance()))
    assert account["settings"]["measure"] == "ece"
    assert "calibration error" in account["rule"]
    (cell, *_) = [each for each in account["tables"][0]["cells"] if each["section"] == "methods"]
    assert [run["ece"] for run in cell["runs"]] == [1.0, 2.0, 4.0]


def test_a_notebook_may_name_the_measure_and_is_refused_what_a_command_is():
    logs = logs_of(runs_of([[1.0, 2.0, 4.0]] * 8, "ece"))
    assert compare(logs, Layout(measure="ece")).grids == compare(logs, Layout(measure=Measure.ece)).grids
    with pytest.raises(UserError, match="epoch=best"):
        compare(logs, Layout(measure="ece", epoch="best"))
    with pytest.raises(InvalidSetting, match="names=.*: a mapping is expected"):
        Layout(names=["AFT-KD"])


def test_logs_without_it_say_so():
    with pytest.raises(UserError, match="no teacher_kl in its summary"):
        made([logged()], Measure.teacher_kl)
