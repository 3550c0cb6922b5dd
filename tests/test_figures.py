"""Figures: what they show is what was logged, what they cannot show is said, and their files come out the same."""

import dataclasses
import itertools
import math
import re
import warnings

import numpy as np
import pytest
import safetensors.numpy
from commands import TINY, few_digits, merge, run
from hypothesis import given, settings
from hypothesis import strategies as st
from light import assert_light
from logged import grid, logged, logs_of
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy import stats

import analysis
from analysis.cells import Cell
from analysis.figures import blocks
from analysis.figures.attention import energy
from analysis.figures.correlation import correlation
from analysis.figures.pareto import front
from analysis.figures.ranks import groups
from analysis.figures.settings import Cost, FigureKind, PlotConfig
from analysis.figures.view import NothingToDraw, one_protocol
from analysis.plot import COMMAND, draw
from benchmarks import metrics, style
from benchmarks.cli import main
from benchmarks.errors import UserError
from benchmarks.pairs import PAIRS

VGG, WRN, RES = "vgg13_vgg8", "wrn40_2_wrn16_2", "resnet56_resnet20"
NEED_MORE = {FigureKind.ranks, FigureKind.sensitivity}  # than the real runs here: pairs, or values of a setting


def view_of(runs, *, methods=(), pairs=(), protocol=None, epoch="last"):
    return one_protocol(logs_of(runs), methods, pairs, protocol, epoch)


def drawn(kind, runs, **options):
    return draw(view_of(runs), PlotConfig(kind=FigureKind(kind), **options))


def line(axis, name):
    (found,) = [each for each in axis.lines if each.get_label() == name]
    return found


def ticks(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def note(figure):
    return figure.get_suptitle().replace("\n", " ")


# Curves and weights


def test_a_curve_is_the_mean_over_seeds_and_its_band_the_sample_deviation():
    tops = [70.0, 71.0, 73.0]
    figure = drawn("curves", grid({("kd", VGG): tops, ("none", VGG): [60.0]}, epochs=3))
    (axis,) = figure.axes
    rows = np.array([np.linspace(top - 1, top, 3) for top in tops])
    kd = line(axis, "kd")
    assert kd.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(kd.get_ydata(), rows.mean(axis=0))
    band = next(
        each for each in axis.collections if np.allclose(each.get_facecolor()[0][:3], to_rgb(kd.get_color()))
    )
    (outline,) = [path.vertices for path in band.get_paths()]
    low, high = rows.mean(axis=0) - rows.std(axis=0, ddof=1), rows.mean(axis=0) + rows.std(axis=0, ddof=1)
    np.testing.assert_allclose(np.sort(np.unique(outline[:, 1].round(9))), np.sort([*low, *high]))
    assert line(axis, "teacher").get_ydata()[0] == 74.0
    assert "1 to 3 seeds" in note(figure)


def test_a_curve_begins_where_it_is_asked_to():
    (axis,) = drawn("curves", grid({("kd", VGG): [70.0]}, epochs=9), start=5).axes
    assert line(axis, "kd").get_xdata().tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("kind", ["curves", "weights"])
def test_a_curve_cannot_begin_behind_its_end(kind):
    runs = grid({("kd", VGG): [70.0]}, epochs=9)
    with pytest.raises(NothingToDraw, match="start=10: the runs have 9 epochs"):
        drawn(kind, runs, start=10)


def test_final_scores_are_drawn_of_runs_that_logged_no_epochs():
    runs = grid({("kd", VGG): [70.0, 71.0], ("none", VGG): [69.0, 69.5]})
    for each in runs:
        each.history.clear()
    assert drawn("gain", runs).axes
    with pytest.raises(NothingToDraw, match="metric"):
        drawn("curves", runs, start=2)


@pytest.mark.parametrize(("count", "banded"), [(6, True), (7, False)])
def test_bands_are_drawn_for_as_many_lines_as_they_can_be_told_apart(count, banded):
    scores = {(f"method {k}", VGG): [70.0 + k, 71.0 + k] for k in range(count)}
    figure = drawn("curves", grid(scores))
    assert len(figure.axes[0].collections) == (count if banded else 0)
    assert ("without bands beyond 6 lines, over 2 seeds" in note(figure)) != banded


def test_one_seed_is_said_to_have_no_spread():
    assert "one seed: no spread is known" in note(drawn("curves", grid({("kd", VGG): [70.0]})))


def test_a_panel_for_each_pair_and_any_logged_metric():
    runs = grid({("kd", VGG): [70.0], ("kd", WRN): [72.0]})
    figure = drawn("curves", runs, metric="train/loss/ce")
    assert {axis.get_title() for axis in figure.axes} == {VGG, WRN}
    assert all(line(axis, "kd").get_ydata().tolist() == [2.0, 1.0] for axis in figure.axes)
    with pytest.raises(NothingToDraw, match="train/loss/cd'(?s:.*)closest: train/loss/ce"):
        drawn("curves", runs, metric="train/loss/cd")


def test_weights_show_each_term_and_what_multiplies_it():
    run = logged("aftkd", VGG)
    for term, loss, weight in (("ce", [2, 1], [1.2, 1.0]), ("afb", [4, 3], [2.8, 3.0])):
        run.history |= {f"train/loss/{term}": np.array(loss), f"train/weight/{term}": np.array(weight)}
    top, bottom = drawn("weights", [run, logged("none", VGG)]).axes
    assert line(top, "afb").get_ydata().tolist() == [4, 3]
    assert line(bottom, "afb").get_ydata().tolist() == [2.8, 3.0]
    assert top.get_title().startswith("aftkd")
    assert top.get_yscale() == "log"
    run.history["train/loss/afb"] = np.array([1.0, -3.0])
    assert drawn("weights", [run]).axes[0].get_yscale() == "linear"  # which shows all of it
    with pytest.raises(NothingToDraw, match="more than one loss term"):
        drawn("weights", [logged("none", VGG)])


def titles_apart(figure):
    """Whether the titles touch neither each other, nor the note, nor the figure's edges."""
    figure.draw_without_rendering()
    (width, height), dpi = figure.get_size_inches(), figure.dpi
    titles = [title for axis in figure.axes for title in (axis.title, axis._left_title) if title.get_text()]
    boxes = [title.get_window_extent() for title in titles]
    boxes += [figure._suptitle.get_window_extent()]
    assert all(box.x0 >= 0 and box.x1 <= width * dpi and box.y1 <= height * dpi for box in boxes)
    return not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_titles_of_long_names_do_not_touch():
    run = logged("aftkd", VGG, label="aftkd (loss.schedule=fixed, weights.afb=10.0)")
    runs = [run, *(logged("aftkd", VGG, label=f"{run.config['label']} {k}") for k in range(2))]
    for each in runs:
        for term in ("ce", "afb"):
            each.history |= {f"train/loss/{term}": np.ones(2), f"train/weight/{term}": np.ones(2)}
    assert titles_apart(drawn("weights", runs))


@pytest.mark.parametrize("kind", ["curves", "gain", "sensitivity", "blocks"])
def test_titles_of_pairs_under_several_teachers_and_rates_do_not_touch(kind):
    runs = [
        logged(
            "aftkd", "resnet32x4_shufflev2", teacher=sha * 64, train={"lr": lr}, label=f"v{k}", id=f"{sha}{lr}{k}"
        )
        for sha, lr, k in itertools.product("ab", (0.01, 0.05), range(3))
    ]
    for k, each in enumerate(runs):
        each.config["method"] |= {"degree": k % 3} if kind == "sensitivity" else {"block_size": [2 ** (k % 3)] * 3}
    figure = drawn(kind, runs, **({"reference": "v0"} if kind == "gain" else {}))
    assert sum("teacher" in axis.get_title() for axis in figure.axes) == 4
    assert titles_apart(figure)


@pytest.mark.parametrize(("kind", "times"), [("correlation", 1), ("tsne", 1), ("attention", 4)])
def test_titles_of_long_names_do_not_touch_above_what_runs_hold_inside(kind, times, tmp_path):
    random = np.random.default_rng(0)
    shapes = {"logits": (12, 3), "embedding": (12, 4)}
    arrays = {
        f"{role}/{name}": random.normal(size=shapes[name]) for role in ("teacher", "student") for name in shapes
    }
    arrays |= {"targets": np.arange(12) % 3, "embedded": np.arange(12), "images": np.ones((1, 3, 8, 8))}
    arrays |= {f"{role}/attention/1": np.ones((1, 4, 4)) for role in ("teacher", "student")}
    safetensors.numpy.save_file(arrays, tmp_path / "artifacts.safetensors")
    runs = [
        logged("kd", VGG, label=f"{k}: " + "a name as long as a sentence of many words, " * times) for k in range(4)
    ]
    for each in runs:
        each.summary[metrics.ARTIFACTS] = str(tmp_path / "artifacts.safetensors")
    assert titles_apart(drawn(kind, runs))


# Paired differences


def differences(axis):
    """Each seed's points, by the row's place from below."""
    return {
        each.get_label(): dict(zip(np.round(each.get_ydata() - 0.22).astype(int), each.get_xdata(), strict=True))
        for each in axis.lines
        if str(each.get_label()).startswith("seed")
    }


def test_gains_are_paired_by_the_configured_seed_whatever_the_order():
    alone = [logged("none", VGG, seed, top1) for seed, top1 in ((2, 62.0), (0, 60.0), (1, 61.0))]
    kd = [logged("kd", VGG, seed, top1) for seed, top1 in ((1, 64.5), (2, 64.0), (0, 63.0), (7, 99.0))]
    (axis,) = drawn("gain", [*kd, *alone]).axes
    assert ticks(axis) == ["kd"]
    assert {seed: points[0] for seed, points in differences(axis).items()} == {
        "seed 0": 3.0,
        "seed 1": 3.5,
        "seed 2": 2.0,
    }
    bar = next(each for each in axis.lines if len(each.get_xdata()) == 2 and each.get_linewidth() == 1.6)
    expected = stats.t.interval(0.95, 2, loc=8.5 / 3, scale=stats.sem([3.0, 3.5, 2.0]))
    np.testing.assert_allclose(bar.get_xdata(), expected)
    assert [text.get_text() for text in axis.texts] == ["n = 3"]


@pytest.mark.parametrize(("spread", "filled"), [(0.01, True), (5.0, False)])
def test_a_mean_is_filled_where_the_adjusted_test_says_so(spread, filled):
    kd = [63.0, 64.0 + spread, 65.0 - spread]
    figure = drawn("gain", grid({("none", VGG): [60.0, 61.0, 62.0], ("kd", VGG): kd}))
    diamond = next(each for each in figure.axes[0].lines if each.get_marker() == "D" and each.get_label()[0] == "_")
    assert (diamond.get_markerfacecolor() != "white") == filled
    assert "filled: p < 0.05, adjusted over the figure (paired t test, Holm)" in note(figure)
    assert "not adjusted, so that it can leave out 0 beside a hollow mean" in note(figure)


def test_with_few_seeds_there_is_neither_interval_nor_test():
    figure = drawn("gain", grid({("none", VGG): [60.0, 61.0], ("kd", VGG): [63.0, 65.0]}))
    assert "below 3 seeds neither interval nor test" in note(figure)
    bars = [each for each in figure.axes[0].lines if each.get_linewidth() == 1.6]
    assert all(np.isnan(each.get_xdata()).all() for each in bars)


def test_seeds_that_all_differ_by_the_same_have_neither_interval_nor_test_and_the_figure_says_why():
    scores = {("none", VGG): [60.0, 61.0, 63.0], ("kd", VGG): [63.0, 64.0, 66.0], ("at", VGG): [61.0, 61.5, 62.0]}
    assert "where all seeds differ by the same neither interval nor test" in note(drawn("gain", grid(scores)))
    del scores["kd", VGG]
    assert "neither" not in note(drawn("gain", grid(scores)))
    same = note(drawn("gain", grid(scores | {("kd", VGG): scores["none", VGG]})))  # whose p is 1
    assert "where no seed differs no interval" in same
    assert "neither" not in same


def test_a_seed_has_one_marker_in_all_panels_and_in_the_legend():
    seeds = {VGG: (0, 1, 2), RES: (1, 2, 3)}
    runs = [logged(name, pair, s, 60.0 + s) for name in ("none", "kd") for pair in seeds for s in seeds[pair]]
    figure = drawn("gain", runs)
    shown = [entry for axis in figure.axes for entry in axis.lines] + figure.legends[0].get_lines()
    markers = {(entry.get_label(), entry.get_marker()) for entry in shown if entry.get_label().startswith("seed")}
    assert sorted(label for label, _ in markers) == ["seed 0", "seed 1", "seed 2", "seed 3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"seed {seed}" for seed in range(4)]


def test_a_gain_needs_its_reference():
    with pytest.raises(NothingToDraw, match="reference: unknown row in these logs 'none'"):
        drawn("gain", grid({("kd", VGG): [70.0]}))
    with pytest.raises(NothingToDraw, match="seed in common"):
        drawn("gain", [logged("none", VGG, 0), logged("kd", VGG, 1)])


SIZES = {"content": "both", "block_size": [4, 2]}


def variants():
    settings = [("", {}), ("features", {"content": "features"}), ("blocks 2", {"block_size": [2, 2]})]
    return [
        logged(
            "aftkd",
            VGG,
            seed,
            70.0 + k + seed,
            label=label,
            settings=SIZES | change,
        )
        for k, (label, change) in enumerate(settings)
        for seed in range(3)
    ]


def test_an_ablation_names_what_a_variant_changes_on_each_pair():
    runs = [
        logged("aftkd", pair, seed, 70.0 + len(label) + seed**2, label=label, settings={"sizes": sizes})
        for pair, two in ((VGG, ([4, 2], [8, 4])), (WRN, ([4, 4], [16, 16])))
        for label, sizes in zip(("", "coarse"), two, strict=True)
        for seed in range(3)
    ]
    (tick,) = ticks(drawn("ablation", runs).axes[0])
    assert "".join(tick.split()) == "coarsesizes=[16,16]orsizes=[8,4]"


def test_an_ablation_names_what_each_variant_changes():
    (axis,) = drawn("ablation", variants()).axes
    assert ticks(axis)[::-1] == ["blocks 2\nblock_size=[2,2]", "features\ncontent=features"]
    points = differences(axis)
    assert all(seed == {0: 1.0, 1: 2.0} for seed in points.values())


def names_of(figure):
    """Where an ablation's names of rows are, from below."""
    with style.applied():
        figure.draw_without_rendering()
        return [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize(
    ("num_variants", "pairs"), [(1, [VGG]), (2, [VGG]), (2, [VGG, WRN, RES, "resnet110_resnet20"]), (9, [VGG])]
)
def test_names_of_two_lines_are_clear_of_each_other_and_of_the_panel(num_variants, pairs):
    labels = ["", *(f"variant {k}" for k in range(num_variants))]
    runs = [
        logged("aftkd", pair, seed, 70.0 + (k + seed) ** 2, label=label, settings={"block": k})
        for pair in pairs
        for k, label in enumerate(labels)
        for seed in range(4)
    ]
    figure = drawn("ablation", runs)
    boxes = names_of(figure)
    assert [text.count("\n") for text in ticks(figure.axes[0])] == [1] * num_variants
    assert all(low.y1 < high.y0 for low, high in itertools.pairwise(boxes))
    panel = figure.axes[0].get_window_extent()
    assert panel.y0 < boxes[0].y0
    assert boxes[-1].y1 < panel.y1


@given(st.lists(st.text("an_[,4 ", min_size=1, max_size=90), min_size=1, max_size=4), st.sampled_from([1, 3]))
@settings(max_examples=10, deadline=None)  # each is drawn
def test_long_names_are_whole_within_the_figure_and_leave_the_panels_their_room(names, num_pairs):
    labels = ["", *(f"{k} {name}" for k, name in enumerate(names))]
    runs = [
        logged("aftkd", pair, seed, 70.0 + (k + seed) ** 2, label=label, settings={"sizes": [k] * 30})
        for pair in [VGG, WRN, RES][:num_pairs]
        for k, label in enumerate(labels)
        for seed in range(3)
    ]
    figure = drawn("ablation", runs)
    boxes = names_of(figure)
    told = "".join("".join(ticks(figure.axes[0])[::-1]).split())
    assert all("".join(name.split()) in told for name in names)
    assert all(box.x0 >= 0 for box in boxes)
    assert all(low.y1 < high.y0 for low, high in itertools.pairwise(boxes))
    assert all(axis.get_window_extent().width > 1.2 * figure.dpi for axis in figure.axes)


def test_letters_that_the_font_lacks_are_no_matter_until_the_figure_is_saved(recwarn):
    drawn("ablation", [*variants(), *(logged("aftkd", label="学", seed=seed, top1=7.0) for seed in range(2))])
    assert not recwarn.list


@pytest.mark.parametrize(("key", "word"), [("method_sources", "code"), ("network_sources", "network/data")])
def test_an_ablation_of_edited_files_is_against_the_version_that_was_chosen(key, word):
    edited = [*variants(), *variants()[:3]]
    for k, each in enumerate(edited):
        each.config["code"][key] = ("b" if k < len(variants()) else "a") * 12
        each.id = str(k)
    both = rf"several versions: .*aftkd \({word}=aaaaaa\), aftkd \({word}=bbbbbb\)"
    with pytest.raises(NothingToDraw, match=both):
        drawn("ablation", edited)
    chosen = [f"aftkd ({word}=bbbbbb)", "features", "blocks 2"]
    (axis,) = draw(view_of(edited, methods=chosen), PlotConfig(kind=FigureKind.ablation)).axes
    assert ticks(axis)[::-1] == ["blocks 2\nblock_size=[2,2]", "features\ncontent=features"]
    assert all(seed == {0: 1.0, 1: 2.0} for seed in differences(axis).values())
    with pytest.raises(NothingToDraw, match="default and a variant"):
        draw(view_of(edited, methods=chosen[:1]), PlotConfig(kind=FigureKind.ablation))


def test_an_ablation_needs_a_default_and_its_variants():
    with pytest.raises(NothingToDraw, match="label: features only"):
        drawn("ablation", grid({("aftkd", VGG): [70.0], ("kd", VGG): [70.0]}))
    others = [logged("kd", VGG), logged("kd", VGG, label="soft", settings={"temperature": 8})]
    with pytest.raises(UserError, match="choose method=, one of kd, aftkd"):
        drawn("ablation", [*variants(), *others])
    (axis,) = drawn("ablation", [*variants(), *others], method="kd").axes
    assert ticks(axis) == ["soft\ntemperature=8"]
    hot = logged("kd", VGG, settings={"temperature": 8}, id="hot")
    with pytest.raises(NothingToDraw, match=r"needs the method as usual.*there is kd \(temperature=8\)"):
        drawn("ablation", [logged("kd", VGG), hot], method="kd")


# Blocks


def test_a_stages_mean_is_over_the_settings_with_that_size():
    found = [
        blocks.Setting("", (4, 2), Cell(70.0)),
        blocks.Setting("", (4, 4), Cell(72.0)),
        blocks.Setting("", (8, 4), Cell(75.0)),
    ]
    means, counts = blocks.by_stage(found, 2, [2, 4, 8])
    np.testing.assert_array_equal(means, [[np.nan, 71.0, 75.0], [70.0, 73.5, np.nan]])
    np.testing.assert_array_equal(counts, [[0, 2, 1], [1, 2, 0]])


def test_only_settings_that_differ_in_their_blocks_alone_are_compared():
    view = view_of(variants())
    (column,) = view.columns
    found = blocks.settings(view, "aftkd", column)
    assert [(each.sizes, each.cell.value) for each in found] == [((2, 2), 73.0), ((4, 2), 71.0)]
    with pytest.raises(NothingToDraw, match="block_size"):
        drawn("blocks", grid({("kd", VGG): [70.0]}))
    left, right, *_ = drawn("blocks", variants()).axes
    assert ticks(left) == ["4 · 2", "2 · 2"]
    assert [text.get_text() for text in right.texts] == ["73.00\n(1)", "71.00\n(1)", "72.00\n(2)"]


def test_a_figure_of_blocks_names_what_it_does_not_show_and_what_its_colours_are():
    same = [logged("aftkd", VGG, seed, 70.0, label="copy", settings=SIZES) for seed in range(3)]
    figure = draw(view_of([*variants(), *same], epoch="best"), PlotConfig(kind=FigureKind.blocks))
    assert note(figure).endswith("as they differ in more than block sizes, or in nothing: copy, features")
    assert figure.axes[-1].get_ylabel() == "test top-1, %, BEST epoch"
    elsewhere = [logged("aftkd", WRN), logged("aftkd", WRN, label="features", settings=SIZES)]
    assert note(drawn("blocks", [*variants(), *elsewhere])).endswith(f"nothing: aftkd on {WRN}, features")
    assert "not shown" not in note(
        drawn("blocks", [each for each in variants() if each.config["label"] != "features"])
    )


def test_block_sizes_of_several_versions_of_the_method_do_not_compare():
    runs = variants()
    for place, each in enumerate(runs):
        each.config["code"]["method_sources"] = ("a" if place < 6 else "b") * 12
    with pytest.raises(NothingToDraw, match="several versions: .*aaaaaa: aftkd; bbbbbb: blocks 2"):
        drawn("blocks", runs)


# Sensitivity


def temperatures(values, pair=VGG, default=4.0):
    """kd at several temperatures on three seeds, its accuracy the temperature; the default under its own name."""
    return [
        logged("kd", pair, seed, value + seed, label="" if value == default else f"T{value:g}", settings=settings)
        for value in values
        for settings in [{"temperature": value}]
        for seed in range(3)
    ]


def points(axis):
    """Places of a line's points, and the height of their bars."""
    (found,) = axis.containers
    bars = found.lines[2][0].get_segments()
    return found.lines[0].get_xydata().tolist(), [float(bar[1, 1] - bar[0, 1]) / 2 for bar in bars]


def test_a_line_of_sensitivity_is_the_mean_at_each_value_of_a_setting():
    runs = [*temperatures([8.0, 1.0, 4.0]), *(logged("none", VGG, seed, 3.0) for seed in range(3))]
    (axis,) = drawn("sensitivity", runs).axes
    places, bars = points(axis)
    assert places == [[1, 2], [4, 5], [8, 9]]
    np.testing.assert_allclose(bars, 1.0)  # of seeds 0, 1 and 2
    assert (axis.get_xlabel(), axis.get_xscale()) == ("temperature", "log")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "4", "8"]
    (ring,) = [each for each in axis.lines if each.get_markersize() == 9]
    assert ring.get_xydata().tolist() == [[4, 5]]
    assert line(axis, "student alone").get_ydata()[0] == 3.0
    assert "over 3 seeds; ring: the method's default" in note(drawn("sensitivity", runs))


def test_settings_have_panels_of_their_own_and_so_have_pairs_and_methods():
    both = [*temperatures([1.0, 2.0, 4.0]), *temperatures([2.0, 4.0, 8.0], WRN)]
    weights = [
        logged("sp", VGG, 0, 70.0, label=f"w{weight}", settings={"weights": {"ce": 1.0, "sp": weight}})
        for weight in (0.0, 0.5, 1.0)
    ]
    axes = drawn("sensitivity", [*both, *weights]).axes
    assert [(axis.get_title(), axis.get_xlabel()) for axis in axes] == [
        (f"kd: {WRN}", "temperature"),
        (f"kd: {VGG}", "temperature"),
        (f"sp: {VGG}", "weights.sp"),
    ]
    assert axes[-1].get_xscale() == "linear"  # a weight may be zero
    assert [x for x, _ in points(axes[-1])[0]] == [0.0, 0.5, 1.0]
    (axis,) = drawn("sensitivity", [*both, *weights], method="sp").axes
    assert axis.get_xlabel() == "weights.sp"


def test_a_line_is_over_the_seeds_that_all_its_values_have():
    runs = temperatures([1.0, 2.0, 4.0])[1:]  # without the first seed of the first value
    figure = drawn("sensitivity", runs)
    assert [y for _, y in points(figure.axes[0])[0]] == [2.5, 3.5, 5.5]
    assert "over 2 seeds" in note(figure)
    apart = [logged("kd", VGG, k, 70.0, label=f"T{k}", settings={"temperature": k}) for k in (1, 2, 3)]
    with pytest.raises(NothingToDraw, match="over a common seed"):
        drawn("sensitivity", apart)


def test_a_row_under_its_methods_name_with_another_setting_is_no_default():
    runs = temperatures([1.0, 2.0, 4.0])
    for each in runs:
        each.config["unusual"] = ["method.temperature=4.0"]
    figure = drawn("sensitivity", runs)
    assert not [each for each in figure.axes[0].lines if each.get_markersize() == 9]
    assert "ring" not in note(figure)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"setting": "temprature"}, r"(?s)setting: .*closest: temperature"),
        ({"method": "kdd"}, r"(?s)method: .*closest: kd"),
    ],
)
def test_what_the_logs_do_not_know_is_named(asked, answer):
    with pytest.raises(NothingToDraw, match=answer):
        drawn("sensitivity", temperatures([1.0, 2.0, 4.0]), **asked)


def test_only_rows_that_differ_in_the_setting_alone_make_a_line():
    other = [logged("kd", VGG, 0, 9.0, label="soft", settings={"temperature": 9.0, "standardise": True})]
    figure = drawn("sensitivity", [*temperatures([1.0, 2.0, 4.0]), *other])
    assert [x for x, _ in points(figure.axes[0])[0]] == [1.0, 2.0, 4.0]
    assert note(figure).endswith("not shown, as they differ in something else, or in nothing: soft")
    two = temperatures([1.0, 4.0])
    with pytest.raises(NothingToDraw, match="3 values or more of a numeric setting"):
        drawn("sensitivity", two)
    assert len(points(drawn("sensitivity", two, setting="temperature").axes[0])[0]) == 2
    with pytest.raises(NothingToDraw, match="several values of content"):  # which is no number
        drawn("sensitivity", variants(), setting="content")
    edited = temperatures([1.0, 2.0, 4.0])
    edited[0].config["code"]["method_sources"] = "a" * 12
    edited[-1].config["code"]["method_sources"] = "b" * 12
    with pytest.raises(NothingToDraw, match="kd has several versions"):
        drawn("sensitivity", edited)


# Pareto


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_else_beats(points):
    def beaten(point):
        return any(other[0] <= point[0] and other[1] >= point[1] and other != point for other in points)

    assert front(points) == sorted({point for point in points if not beaten(point)})


def costly(method, top1, minutes, cohort):
    run = logged(method, VGG, 0, top1)
    run.config |= {
        "costs": {role: {"parameters": n, "macs": 2 * n} for role, n in (("student", 10**6), ("teacher", 10**7))},
        "cohort": cohort,
    }
    run.history["time/epoch_s"] = np.full(2, minutes * 30.0)
    return run


def at(axis, name):
    """Places of the points with a name."""
    found = [each for each in axis.containers if each.get_label() == name]
    return [(float(each.lines[0].get_xdata()[0]), float(each.lines[0].get_ydata()[0])) for each in found]


def strips(axis):
    """What stands below each network's strip, and from where to where that goes."""
    spans = sorted((each.get_x(), each.get_x() + each.get_width()) for each in axis.patches)
    return dict(zip([label.get_text() for label in axis.get_xticklabels()], spans, strict=True))


def test_accuracy_is_set_against_the_logged_costs():
    runs = [costly("none", 70.0, 3, ["none"]), costly("kd", 72.0, 5, ["kd"])]
    (axis,) = drawn("pareto", runs, x=Cost.macs).axes
    assert list(strips(axis)) == ["vgg8\n2", "vgg13\n20"]
    (teacher,), (kd,), (alone,) = (at(axis, name) for name in ("teacher", "kd", "student alone"))
    assert (teacher[1], kd[1], alone[1]) == (74.0, 72.0, 70.0)
    assert "each pair" not in note(drawn("pareto", runs, x=Cost.macs))
    wrn = logged("kd", WRN)
    wrn.config["costs"] = runs[0].config["costs"]
    assert "a marker for each pair" in note(drawn("pareto", [*runs, wrn], x=Cost.macs))
    (axis,) = drawn("pareto", runs, x=Cost.time).axes
    assert at(axis, "kd") == [(pytest.approx(5.0), 72.0)]
    assert not at(axis, "teacher")


@given(st.lists(st.integers(700, 720), min_size=2, max_size=9))
@settings(max_examples=10)
def test_students_of_equal_cost_stand_side_by_side_where_no_scale_makes_them_costs(tenths):
    runs = [costly(f"method {k}", tenth / 10, 3, ["one"]) for k, tenth in enumerate(tenths)]
    wrn = logged("kd", WRN)
    wrn.config["costs"] = {"student": {"macs": 3 * 10**6}, "teacher": {"macs": 10**9}}
    (axis,) = drawn("pareto", [*runs, wrn], x=Cost.macs).axes
    names = {"vgg8": [f"method {k}" for k in range(len(tenths))], "wrn_16_2": ["kd"]}
    found = strips(axis)
    assert list(found) == ["vgg8  2", "wrn_16_2  3", "vgg13  20", "wrn_40_2  1,000"]
    for (name, (left, right)), network in zip(found.items(), names, strict=False):
        places = [x for method in names[network] for x, _ in at(axis, method)]
        assert all(left < x < right for x in places), name
        assert np.diff(sorted(places)).min(initial=1) == 1
    ends = [end for span in found.values() for end in span]
    assert ends == sorted(set(ends))  # no two strips touch


def test_names_of_networks_do_not_touch_beside_many_methods():
    runs = [costly(f"method {k}", 70.0, 3, ["one"]) for k in range(40)]
    pairs = [pair for pair in PAIRS if pair.startswith("resnet")]
    runs += [logged(f"method {k}", pair) for pair in pairs for k in range(30)]
    for each in runs:
        teacher, student = PAIRS[each.config["pair"]["name"]]
        costs = {role: {"macs": 10**6 * len(name)} for role, name in (("teacher", teacher), ("student", student))}
        each.config["costs"] = costs
    figure = drawn("pareto", runs, x=Cost.macs)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) > 8
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_the_step_leads_over_what_nothing_cheaper_beats():
    best, worse = costly("kd", 72.0, 5, ["kd"]), costly("at", 71.0, 5, ["at"])
    (axis,) = drawn("pareto", [best, worse], x=Cost.macs).axes
    step = next(each for each in axis.lines if each.get_linestyle() == "--")
    assert step.get_xydata().tolist() == [[x, y] for x, y in (*at(axis, "kd"), *at(axis, "teacher"))]


def test_a_time_that_a_cohort_shared_is_no_methods_cost():
    runs = [costly(method, 70.0, 3, ["none", "kd"]) for method in ("none", "kd")]
    with pytest.raises(NothingToDraw, match="one by one"):
        drawn("pareto", runs, x=Cost.time)
    with pytest.raises(NothingToDraw, match="did not log the parameters"):
        drawn("pareto", grid({("kd", VGG): [70.0]}))


def test_times_of_several_machines_do_not_compare():
    runs = [costly("none", 70.0, 3, ["none"]), costly("kd", 72.0, 5, ["kd"])]
    runs[1].config["environment"] = {"device": "another"}
    with pytest.raises(NothingToDraw, match="several machines do not compare: a processor, 2 threads; another"):
        drawn("pareto", runs, x=Cost.time)
    runs[1].config["cohort"] = ["kd", "at"]  # its time is left out
    assert drawn("pareto", runs, x=Cost.time).axes


def test_a_time_stands_beside_the_accuracy_of_the_same_runs():
    alone, shared = costly("kd", 72.0, 5, ["kd"]), costly("kd", 76.0, 9, ["kd", "at"])
    shared.id, shared.config["seed"] = "shared", 1
    figure = drawn("pareto", [alone, shared], x=Cost.time)
    assert at(figure.axes[0], "kd") == [(pytest.approx(5.0), 72.0)]
    assert "one seed: no spread is known time and accuracy: of the runs that trained alone" in note(figure)


def test_what_logged_no_time_has_no_cost():
    untimed = logged("kd", VGG, 1, 90.0)
    untimed.config["cohort"] = ["kd"]
    with pytest.raises(NothingToDraw, match="no run here has a time of its own"):  # it shared none
        drawn("pareto", [untimed], x=Cost.time)
    (axis,) = drawn("pareto", [costly("kd", 72.0, 5, ["kd"]), untimed], x=Cost.time).axes
    assert at(axis, "kd") == [(pytest.approx(5.0), 72.0)]


# Ranks


@given(st.lists(st.integers(10, 80), min_size=2, max_size=8), st.integers(1, 40))
def test_bars_join_the_largest_sets_that_are_not_told_apart(tenths, difference):
    ranks = sorted(tenths)
    alike = {
        (ranks[i], ranks[j])
        for i, j in itertools.combinations(range(len(ranks)), 2)
        if ranks[j] - ranks[i] < difference
    }
    largest = {
        (low, high)
        for low, high in alike
        if not any((a, b) != (low, high) and a <= low and high <= b for a, b in alike)
    }
    assert set(groups(ranks, difference)) == largest


def test_ranks_are_over_the_pairs_that_all_methods_share():
    scores = {
        ("kd", VGG): [70.0],
        ("kd", WRN): [75.0],
        ("at", VGG): [71.0],
        ("at", WRN): [74.0],
        ("sp", VGG): [80.0],
    }
    figure = drawn("ranks", grid(scores))
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert {"at  1.50", "1.50  kd"} <= set(shown) or {"kd  1.50", "1.50  at"} <= set(shown)
    assert "left out: sp" in note(figure)
    assert "so few pairs" in note(figure)
    assert "joined by a bar: not told apart at 0.05 (Nemenyi)" in note(figure)
    with pytest.raises(NothingToDraw, match="ranks need two methods"):
        drawn("ranks", grid({("kd", VGG): [70.0], ("at", VGG): [70.0]}))


@pytest.mark.parametrize("letters", [4, 28, 60])
@pytest.mark.parametrize("count", [3, 9, 36])
def test_names_of_ranks_lie_within_the_figure_and_apart(letters, count):
    names = [f"{k} " + "degree=0.5 " * 9 for k in range(count)]
    scores = {(name[:letters], pair): [70.0 + k] for k, name in enumerate(names) for pair in (VGG, WRN)}
    figure = drawn("ranks", grid(scores))
    with warnings.catch_warnings(action="error"):  # as of a layout that cannot be
        figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


# What may share a figure


def test_runs_of_several_protocols_never_share_a_figure():
    runs = [logged("kd", VGG), logged("kd", VGG, 1, train={"batch_size": 128})]
    with pytest.raises(UserError, match="several protocols") as error:
        view_of(runs)
    names = [text.split(" (")[0].strip() for text in str(error.value).splitlines()[1:]]
    for name in names:
        view = view_of(runs, protocol=name.split()[-1])
        assert view.protocol == name
        assert len(view.cells) == 1


def test_unfinished_runs_are_not_drawn_and_the_reason_is_told():
    with pytest.raises(NothingToDraw, match="2 runs: interrupted"):
        view_of([logged("kd", VGG, seed, status="interrupted") for seed in range(2)])


def test_the_command_tells_what_it_left_out_as_a_table_does(tmp_path, capsys):
    logs = logs_of([logged("kd", VGG), logged("kd", VGG, 1, status="failed", id="crashed")])
    analysis.save(dataclasses.replace(logs, notes=("runs/a: cut",)), tmp_path / "logs.parquet")
    assert plot("kind=curves", f"source={tmp_path / 'logs.parquet'}", f"out={tmp_path / 'a.svg'}") == 0
    assert capsys.readouterr().err == "note: runs/a: cut\nnote: crashed left out: failed (kd)\n"


def test_a_notebook_is_told_what_would_do():
    logs = logs_of(grid({("kd", VGG): [61.0]}))
    with pytest.raises(UserError, match="closest: gain"):
        analysis.figure(logs, "gian")
    with pytest.raises(ValueError, match="x=tiem is none of parameters, macs, time"):
        analysis.figure(logs, "pareto", x="tiem")
    with pytest.raises(ValueError, match=r"pairs=vgg13_vgg8: a list is expected, as \['vgg13_vgg8'\]"):
        analysis.figure(logs, "curves", pairs=VGG)
    with pytest.raises(UserError, match="alpha=0.05 has no effect"):
        analysis.figure(logs, "curves", alpha=0.05)
    with pytest.raises(UserError, match="out= is of the command"):
        analysis.figure(logs, "curves", out="a.pdf")


def test_the_best_epoch_is_marked_as_such():
    view = view_of(grid({("none", VGG): [60.0], ("kd", VGG): [61.0]}), epoch="best")
    assert "BEST epoch" in note(draw(view, PlotConfig(kind=FigureKind.gain)))
    curves = draw(view, PlotConfig(kind=FigureKind.curves))  # they show all epochs
    assert curves.axes[0].get_ylabel() == "test top-1, %"


# Arrays


def test_correlation_is_numpys_and_blind_to_scale_and_shift():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(correlation(logits), np.corrcoef(logits.T), atol=1e-6)
    np.testing.assert_allclose(correlation(3 * logits + 5), correlation(logits), atol=1e-5)
    constant = logits.copy()
    constant[:, 1] = 2.0
    assert not correlation(constant)[1].any()


def test_energy_is_the_length_over_channels():
    maps = np.random.default_rng(0).normal(size=(2, 5, 3, 3))
    np.testing.assert_allclose(energy(maps), np.sqrt((maps**2).sum(axis=1)))
    assert energy(maps[:, 0]).shape == (2, 3, 3)


@pytest.fixture(scope="module")
def output(teacher_root, tmp_path_factory):
    """Real runs with their arrays; the student alone among them."""
    folder = tmp_path_factory.mktemp("figures")
    variant = "{name: aftkd, label: small <b> $x$, block_size: [2,2,2]}"
    words = [f"methods=[none,kd,aftkd,{variant}]".replace("small <b> $x$", "'small <b> $x$'")]
    words += [
        "tracking.mode=offline",
        "tracking.artifacts=true",
        f"output={folder}",
        f"teacher.root={teacher_root}",
    ]
    with few_digits():
        for seed in (0, 1):
            assert run(*merge(TINY, [*words, f"seed={seed}"])) == 0
    return folder


def plot(*words):
    return main(COMMAND, list(words))


@pytest.mark.parametrize("kind", [kind for kind in FigureKind if kind not in NEED_MORE])
def test_every_kind_is_drawn_from_real_runs(kind, output, tmp_path):
    path = tmp_path / "figure.svg"
    assert plot(f"kind={kind}", f"source={output}", f"out={path}") == 0
    text = path.read_text()
    assert text.endswith("</svg>\n")
    assert "aftkd" in text  # as text, not as outlines


def test_the_embedding_of_each_student_is_told_when_it_begins(output, tmp_path, capsys):
    path = tmp_path / "a.svg"
    assert plot("kind=tsne", f"source={output}", "methods=[none,kd]", "classes=50", f"out={path}") == 0
    assert "images of 10 classes" in path.read_text()  # as many as there are
    said = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert said == ["t-SNE 1/3  teacher", "t-SNE 2/3  student alone", "t-SNE 3/3  kd"]


@pytest.mark.parametrize("kind", [FigureKind.curves, FigureKind.tsne])
def test_files_come_out_the_same_byte_for_byte(kind, output, tmp_path):
    names = [[tmp_path / f"{when}.{form}" for form in style.METADATA] for when in ("first", "second")]
    for some in names:
        words = ["methods=[aftkd]", f"source={output}", f"out=[{','.join(map(str, some))}]"]
        assert plot(f"kind={kind}", *words) == 0
    for first, second in zip(*names, strict=True):
        assert first.read_bytes() == second.read_bytes()
    png, pdf, _ = (path.read_bytes() for path in names[0])
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf


def test_arrays_are_found_beside_the_logs_when_a_directory_has_moved(output, tmp_path):
    moved = tmp_path / "moved"
    output.rename(moved)
    try:
        assert plot("kind=correlation", f"source={moved}", f"out={tmp_path / 'a.svg'}") == 0
    finally:
        moved.rename(output)


def test_the_difference_of_correlations_is_shown_as_measured(output, tmp_path):
    view = one_protocol(analysis.load(str(output)), ["kd"], [], None, "last")
    figure = draw(view, PlotConfig(kind=FigureKind.correlation))
    matrices = []
    for run_id in view.cells.sort_values("seed")["run_id"]:
        arrays = safetensors.numpy.load_file(view.runs.loc[run_id, "summary"][metrics.ARTIFACTS])
        pair = [np.corrcoef(arrays[f"{role}/logits"].T) for role in ("student", "teacher")]
        matrices.append(np.abs(pair[0] - pair[1]))
    assert "matrix of each one's lowest seed (0)" in note(figure)
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(image.get_array(), matrices[0], atol=1e-5)
    assert (
        f"mean {np.mean(matrices):.3f} ± {np.std([m.mean() for m in matrices], ddof=1):.3f}"
        in figure.axes[0].get_title()
    )


def test_a_student_alone_borrows_its_pairs_teacher(output, tmp_path, capsys):
    assert plot("kind=correlation", f"source={output}", f"out={tmp_path / 'a.svg'}") == 0
    assert "student alone" in (tmp_path / "a.svg").read_text()
    capsys.readouterr()
    assert plot("kind=correlation", f"source={output}", "methods=[none]", f"out={tmp_path / 'b.svg'}") == 2
    assert "tracking.artifacts=true" in capsys.readouterr().err
    assert not (tmp_path / "b.svg").exists()


def test_runs_without_arrays_say_how_to_write_them(distil, tmp_path, capsys):
    assert distil("method=none", "tracking.mode=offline") == 0
    capsys.readouterr()
    for kind in (FigureKind.correlation, FigureKind.tsne, FigureKind.attention):
        assert plot(f"kind={kind}", f"source={tmp_path / 'runs'}", f"out={tmp_path / 'a.png'}") == 2
        assert "tracking.artifacts=true" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("kind", [FigureKind.correlation, FigureKind.tsne, FigureKind.attention])
def test_runs_without_arrays_among_others_are_named(kind, output, tmp_path):
    path, want = tmp_path / "a.svg", "not shown, for want of arrays: "
    assert plot(f"kind={kind}", f"source={output}", f"out={path}") == 0
    assert want not in path.read_text()
    hidden = list(output.glob("*/kd/*/artifacts.safetensors"))
    for file in hidden:
        file.rename(file.with_suffix(".hidden"))
    try:
        assert plot(f"kind={kind}", f"source={output}", f"out={path}") == 0
    finally:
        for file in hidden:
            file.with_suffix(".hidden").rename(file)
    assert f"{want}kd<" in path.read_text()


def test_a_notebook_draws_what_the_command_draws(output, tmp_path):
    assert plot("kind=gain", f"source={output}", "methods=[kd,none]", f"out={tmp_path / 'a.svg'}") == 0
    drawn = analysis.figure(analysis.load(str(output)), "gain", methods=["kd", "none"])
    assert style.svg(drawn) == (tmp_path / "a.svg").read_text()


# Style and command line


def test_the_last_bits_of_a_layout_do_not_show_in_svg():
    """By which a layout's solver is off, once so and once so."""

    def drawn_at(left):
        figure = Figure(layout="none")
        figure.add_axes((left, 0.1, 0.3, 0.8)).plot([0, 1])
        figure.add_axes((0.6, 0.1, 0.3, 0.8)).plot([0, 1])
        with style.applied():
            return style.svg(figure)

    one, other, moved = map(drawn_at, (0.1, math.nextafter(0.1, 1), 0.11))
    assert one == other
    assert one != moved
    clipped = set(re.findall(r"url\(#(\w+)\)", one))
    assert clipped == set(re.findall(r'<clipPath id="(\w+)">', one))
    assert len(clipped) == 2


@pytest.mark.parametrize("count", [8, 20])
def test_a_long_legend_leaves_a_panel_its_height(count):
    figures = [
        drawn("curves", [logged(label=f"a rather long label {k}", top1=60.0 + k) for k in range(num)])
        for num in (1, count)
    ]
    for figure in figures:
        with style.applied():
            figure.draw_without_rendering()
    short, long = (figure.axes[0].get_window_extent().height for figure in figures)
    assert 0.95 * short < long < 1.1 * short


def test_names_wider_than_the_figure_are_wrapped_in_the_legend():
    """A row that its settings name can be; the panel keeps its height."""
    short, long = (
        drawn("curves", [logged(label=f"{name} {k}", top1=60.0 + k) for k in range(3)])
        for name in ("kd", "kd (block_size=[2,4,8], content=features, loss.schedule=fixed, weights.afb=10.0)")
    )
    with style.applied():
        for figure in (short, long):
            figure.draw_without_rendering()
    legend = long.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= long.bbox.width
    heights = [figure.axes[0].get_window_extent().height for figure in (short, long)]
    assert 0.95 * heights[0] < heights[1] < 1.1 * heights[0]


@pytest.mark.parametrize("form", style.METADATA)
def test_characters_that_the_font_lacks_are_named_once(form, tmp_path, capsys, recwarn):
    figure, (axis,) = style.panels([1])
    axis.set(title="蒸馏 é", xlabel="蒸")
    style.save(figure, tmp_path / f"a.{form}")
    said = capsys.readouterr().err
    assert said.count("蒸馏") == (form != "svg")
    assert "é" not in said
    assert not recwarn
    if form == "svg":
        assert "蒸馏 é" in (tmp_path / "a.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.1, 2, ["0.1", "0.2", "0.5", "1", "2"]), (1e-3, 1e3, ["0.001", "0.01", "0.1", "1", "10", "100", "1000"])],
)
def test_numbers_of_a_logarithmic_axis_are_those_that_have_room(low, high, shown):
    figure, (axis,) = style.panels([1])
    axis.set(xscale="log", xlim=(low, high))
    style.plain_numbers(axis.xaxis)
    figure.draw_without_rendering()
    ticks = [(tick.get_loc(), tick.label1.get_text()) for tick in axis.xaxis.get_major_ticks()]
    assert [text for place, text in ticks if text and low <= place <= high] == shown


@pytest.mark.parametrize("count", [1, 6, 7, 24, 35, 49])
@pytest.mark.parametrize("seen", ["linestyle", "color"])  # in black and white, and where points have no line
def test_no_two_names_look_alike_by_lines_or_by_colours_alone(count, seen):
    looks = style.looks([str(k) for k in range(count)], plain="0")
    assert len(looks) == count
    without = {(look["marker"], look.get("markerfacecolor") == "white", str(look[seen])) for look in looks.values()}
    assert len(without) == count


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["source=x"], ["kind=curves", "kind=attention"]),
        (["kind=curve"], ["kind", "curve", "curves"]),
        (["kind=curves", "alpha=0.1"], ["alpha", "kind=ablation"]),
        (["kind=pareto", "x=size"], ["x=size", "macs"]),
        (["kind=curves", "out=a.jpeg"], ["out=a.jpeg", ".pdf, .png, .svg"]),
        (["kind=curves", "out=[]"], ["out"]),
        (["kind=attention", "samples=9"], ["samples=9", "8"]),
        (["kind=curves", "source=nowhere"], ["source=nowhere"]),
    ],
)
def test_mistakes_are_named_with_what_would_do(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plot(*words) == 2
    error = capsys.readouterr().err
    assert all(text in error for text in told), error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_help_and_mistakes_load_nothing_heavy():
    lines = ["import analysis.plot as p", "p.main(p.COMMAND, ['help'])", "p.main(p.COMMAND, ['kind=x'])"]
    assert_light({"matplotlib", "pandas", "numpy", "scipy", "torch", "wandb"}, *lines)
