"""What a study may try: only what can be trained and acts, the defaults first."""

import contextlib
import dataclasses
import itertools
import pickle
import shlex
from collections.abc import Mapping
from functools import cache

import optuna
import pytest
import yaml
from helpers import IMPOSSIBLE
from studies import SMALL, plan_of

from benchmarks.cli import compose_config
from benchmarks.errors import UserError
from benchmarks.protocol import resolve
from benchmarks.run import COMMAND as COMMAND_OF_RUN
from benchmarks.variants import Variant
from methods import Search, configure, dead_settings, registry
from methods.schedules import LossConfig
from sweeps import spaces
from sweeps.draft import defaults, from_trial, get, of_point
from sweeps.objective import COMMAND, PRESET, record

plan_of = cache(plan_of)
ON_DIGITS = ("data=digits", "train.threads=1", "train.precision=fp32")
VGG = ("pair=vgg13_vgg8", *ON_DIGITS)
every_space = pytest.mark.parametrize("space", [name for name in spaces.available() if not spaces.find(name).grid])


def random_drafts(draft, number):
    """What `draft` makes of a random sampler's suggestions, with the trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(number):
        trial = study.ask()
        yield trial, draft(from_trial(trial))


def base_of(space, pair):
    """What a space starts from: its method as it comes."""
    base = plan_of("space=aftkd", f"pair={pair}", *ON_DIGITS).base
    name = space.method or "aftkd"
    method = configure(name).for_pair(pair, ())
    return dataclasses.replace(base, variant=Variant(method, LossConfig()))


@every_space
@pytest.mark.parametrize("pair", ["vgg13_vgg8", "wrn40_2_shufflev1"])
def test_every_draft_can_be_trained_and_all_of_it_acts(space, pair):
    space = spaces.find(space)
    base = base_of(space, pair)
    if pair in IMPOSSIBLE.get(space.method, ((), ""))[0]:
        with pytest.raises(UserError):
            space.first_points(base)
        return
    for trial, draft in random_drafts(lambda pick: space.draft(base, pick), 4):
        assert trial.params == draft.point
        student = base.resolve(draft.variant)
        assert not dead_settings(student.method)
        assert not dead_settings(student.loss)
        assert space.draft(base, of_point(draft.point)).variant == draft.variant


@pytest.mark.parametrize(
    ("space", "picked"),
    [("catkd", {"resolution": 1, "normalise": True}), ("mlkd", {"views": 1, "form": "code"})],
)
def test_of_choices_that_exclude_each_other_the_first_is_picked(space, picked):
    base = base_of(spaces.find(space), "vgg13_vgg8")
    found = spaces.find(space).draft(base, lambda name, search, default: picked.get(name, default))
    first, second = (name for name in found.point | picked if name in picked)
    assert found.point[first] == picked[first]
    assert second not in found.point
    base.resolve(found.variant)


@every_space
def test_the_defaults_come_first(space):
    space = spaces.find(space)
    base = base_of(space, "vgg13_vgg8")
    (point,) = space.first_points(base)
    assert base.resolve(space.draft(base, of_point(point)).variant) == base.resolve(base.variant)


@pytest.mark.parametrize("name", ["aftkd", "kd"])
def test_a_methods_own_space_has_all_of_its_fields_and_no_schedule(name):
    space = spaces.own_of(name)
    (point,) = space.first_points(base_of(space, "vgg13_vgg8"))
    ranges = [field.name for field in dataclasses.fields(configure(name)) if field.metadata["search"] is not None]
    assert {key.split(".")[0] for key in point} == set(ranges)


@pytest.mark.parametrize("name", [name for name in registry.available() if name != "none"])
def test_every_default_is_in_its_range(name):
    variants = [({}, pair) for pair in ("", *configure(name).by_pair)]
    variants += [(dict([key]), pair) for key, table in configure(name).by_pair_with.items() for pair in table]
    for variant, pair in variants:
        check_ranges(configure(name, **variant).for_pair(pair, ()))
    for pair in ("", *configure(name).by_pair):
        space = spaces.find(name)
        if pair and not space.grid:
            assert len(space.first_points(base_of(space, pair))) == 1


def test_every_default_of_a_schedule_is_in_its_range():
    check_ranges(LossConfig(schedule="adaptive"))


def check_ranges(config):
    """A search starts from each value, but for weights of terms that are switched off."""
    for field in dataclasses.fields(config):
        value, search = getattr(config, field.name), field.metadata["search"]
        if isinstance(search, Search):
            assert value is None or search.has(value), field.name
        elif isinstance(search, Mapping):
            assert all(each.has(value[term]) for term, each in search.items() if value[term] > 0), field.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("space=aftkd", "method=aftkd", "method.weights.afb=50"),
            r"method.weights.afb=50.0: .* 0.3 to 30 \(log\)",
        ),
        (
            ("space=crd", "method=crd", "method.num_negatives=512"),
            r"method.num_negatives=512: .* {1024, 4096, 16384}",
        ),
        (
            ("space=loss_schedule", "method=at", "loss.schedule=linear", "loss.start=3"),
            r"^loss.start=3.0: .* 0 to 2",
        ),
        (("space=aftkd_ablation", "method=aftkd", "method.degree=0.3"), "method.degree has no effect"),
    ],
)
def test_what_a_search_cannot_start_from_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        plan_of(*words, *VGG)


def test_what_is_set_is_where_the_search_starts():
    plan = plan_of("space=crd", "method=crd", "method.num_negatives=4096", "method.weights.crd=2", *VGG)
    (point,) = plan.points
    assert (point["num_negatives"], point["weights.crd"]) == (4096, 2)
    assert plan.draft(of_point(point)).variant == plan.base.variant


def test_blocks_are_those_that_fit_each_stage():
    plan = plan_of("space=aftkd_blocks", *VGG)
    seen = {}
    plan.draft(lambda name, search, default: seen.update({name: search.choices}) or defaults(name, search, default))
    valid = plan.base.resolve(plan.base.variant).method.valid_block_sizes(*plan.base.specs)
    assert {name: choices for name, choices in seen.items() if name.startswith("block_size.")} == {
        f"block_size.{k}": sizes for k, sizes in enumerate(valid, start=1)
    }
    assert all(len(sizes) > 1 for sizes in valid)


@pytest.mark.parametrize(
    ("schedule", "parameters"),
    [
        ("fixed", set()),
        ("linear", {"loss.start", "loss.end"}),
        ("cosine", {"loss.start", "loss.end"}),
        ("adaptive", {"loss.temperature", "loss.rate"}),
    ],
)
def test_a_schedule_is_asked_for_its_own_settings_only(schedule, parameters):
    plan = plan_of("space=aftkd", *VGG)

    def pick(name, search, default):
        return schedule if name == "loss.schedule" else defaults(name, search, default)

    asked = {name for name in plan.draft(pick).point if name.startswith("loss.")}
    assert asked == parameters | {"loss.schedule"}


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (("space=aftkd_blocks", "method=aftkd", "method.content=features"), {"degree", "attention"}),
        (("space=aftkd", "method=aftkd", "method.weights.kd=0"), {"weights.kd"}),
        (("space=loss_schedule", "method=vid"), set()),  # vid has a term that can be negative
    ],
)
def test_what_is_fixed_decides_what_is_asked(words, absent):
    plan = plan_of(*words, *VGG)
    asked = {}
    plan.draft(lambda name, search, default: asked.update({name: search}) or defaults(name, search, default))
    assert asked
    assert not absent & set(asked)
    if "method=vid" in words:
        assert "adaptive" not in asked["loss.schedule"].choices


def test_attention_alone_is_never_offered_a_single_block():
    plan = plan_of("space=aftkd_blocks", "method=aftkd", "method.content=attention", *VGG)
    valid = plan.base.resolve(plan.base.variant).method.valid_block_sizes(*plan.base.specs)
    for _, draft in random_drafts(plan.draft, 20):
        sizes = get(plan.base.resolve(draft.variant), "block_size") or [0] * 4  # channels alone have no blocks
        assert all(size < whole[-1] for size, whole in zip(sizes, valid, strict=True))


def test_the_grid_has_every_combination_that_works_once():
    plan = plan_of("space=aftkd_ablation", *VGG)
    found = [plan.base.resolve(plan.draft(of_point(point)).variant) for point in plan.points]
    assert all(one != other for one, other in itertools.combinations(found, 2))
    assert plan.search.trials == len(found)

    contents = [("both", 0.25), ("both", 0.5), ("both", 1.0), ("attention", 0.5), ("features", 0.5)]
    blocks = ([4, 2, 1, 1], [8, 4, 2, 2], [16, 8, 4, 4])  # at most 4, 2, 1 cells along a side of 16, 8, 4, 4
    expected = []
    for (content, degree), block_size, center, schedule in itertools.product(
        contents, blocks, (True, False), ("adaptive", "fixed")
    ):
        method = configure("aftkd", content=content, degree=degree, block_size=block_size, center=center)
        with contextlib.suppress(UserError):
            expected.append(plan.base.resolve(Variant(method, LossConfig(schedule=schedule))))
    assert len(expected) == 56
    assert all(student in found for student in expected)
    assert len(found) == len(expected)


@pytest.mark.parametrize("space", ["aftkd", "loss_schedule", "dkd", "fitnet"])
def test_a_trials_settings_as_a_preset_are_the_same_student(space, tmp_path):
    plan = plan_of(f"space={space}", *VGG)
    for _, draft in random_drafts(plan.draft, 2):
        path = tmp_path / "preset.yaml"
        path.write_text(yaml.safe_dump(record(plan, draft.variant)[PRESET]))
        method = draft.variant.method.name
        words = [f"method={method}", f"preset={path}", *VGG, "data.validation=0.1", "train.epochs=3"]
        assert student(plan, words) == plan.base.resolve(draft.variant)


def test_a_weight_that_another_variant_has_for_the_pair_is_a_setting(tmp_path):
    """TTM's own, 45, is not what its weighted variant has anyway."""
    typed = ["method=ttm", "method.weighted=true", "method.weights.ttm=45"]
    plan = plan_of("space=loss_schedule", *typed, *VGG)
    variant = plan.base.variant
    path = tmp_path / "preset.yaml"
    path.write_text(yaml.safe_dump(record(plan, variant)[PRESET]))
    words = ["method=ttm", f"preset={path}", *VGG, "data.validation=0.1", "train.epochs=3"]
    assert student(plan, words) == plan.base.resolve(variant)


@pytest.mark.parametrize("pair", [VGG, SMALL])
def test_a_trials_command_is_the_same_student(pair):
    plan = plan_of("space=aftkd", *pair)
    for _, draft in random_drafts(plan.draft, 2):
        words = shlex.split(record(plan, draft.variant)[COMMAND])
        assert words[:3] == ["python", "-m", "benchmarks.run"]
        assert student(plan, words[3:]) == plan.base.resolve(draft.variant)


def student(plan, words):
    """The student of a line of `benchmarks.run`."""
    run, (variant,) = resolve(*compose_config(COMMAND_OF_RUN, words))
    return variant.resolve(run, plan.base.specs)


def test_a_space_is_of_its_method():
    with pytest.raises(UserError, match="space=aftkd_blocks is of method=aftkd, not of method=kd"):
        plan_of("space=aftkd_blocks", "method=kd", *VGG)
    with pytest.raises(UserError, match="unknown space 'aftkd_block'\n  closest: aftkd_blocks"):
        spaces.find("aftkd_block")
    with pytest.raises(UserError, match="unknown space 'none'"):
        spaces.find("none")


@pytest.mark.parametrize("name", spaces.available())
def test_a_space_can_be_handed_to_another_process(name):
    space = spaces.find(name)
    assert pickle.loads(pickle.dumps(space)) == space


def test_a_space_with_nothing_to_search_is_refused():
    with pytest.raises(UserError, match="nothing to search"):
        plan_of("space=aftkd_blocks", "method=aftkd", "method.weights.afb=0", *VGG)
