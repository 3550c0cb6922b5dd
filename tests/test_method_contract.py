"""What every method promises to the harness; a new method inherits these tests by being registered."""

import copy
import dataclasses
import io
import math
import re

import pytest
import torch
from helpers import (
    IMPOSSIBLE,
    INDEX,
    NUM_CLASSES,
    TARGET,
    TARGETS,
    make,
    no_host_reads,
    pretraining_terms_of,
    same_state,
    student_features,
    teacher_features,
    tensors,
    terms_of,
    with_grad,
)

import methods
from benchmarks.training.trial import on_trial
from methods import (
    FeatureSpec,
    InvalidSetting,
    Method,
    Search,
    SearchEach,
    configure,
    get,
    option,
    register,
)
from methods.features import BY_STAGE, joined, part_of
from methods.schedules import LossConfig, LossWeights

NAMES = methods.available()
every_method = pytest.mark.parametrize("name", NAMES)

# Settings under which a method computes something else entirely.
VARIANTS = {
    "abkd": [{"alpha": 0.0}, {"beta": 0.0}, {"standardise": True}],
    "aftkd": [
        {"content": "features"},
        {"content": "attention"},
        {"content": "attention", "attention": "spatial"},
        {"content": "attention", "attention": "channel"},
        {"center": False},
    ],
    "ft": [{"factor": "spatial"}],
    "mlkd": [{"form": "code"}, {"views": 1}, {"standardise": True}],
    "fitnet": [{"activation": "linear"}, {"stage": 3}],
    "at": [{"stages": [[2, 1]]}],
    "catkd": [{"normalise": False, "resolution": 1}],
    "cc": [{"form": "adjacent"}],
    "ctkd": [{"standardise": True}],
    "dkd": [{"standardise": True}],
    "kd": [{"standardise": True}],
    "kdsvd": [{"matrix": "columns"}, {"vectors": 2}],
    "ttm": [{"weighted": True}],
    "rld": [{"standardise": True}],
    "sdd": [{"standardise": True}, {"scales": [1, 2, 8]}],
    "srrl": [{"connects": "embedding"}],
    "sskd": [{"standardise": True}, {"tf_wrong": 0.0}],
    "vid": [{"train_variance": False}],
}
# Parts that a method reads of the teacher alone.
OF_THE_TEACHER = {"reviewkd": {"preacts"}, "simkd": {"logits"}}
ALL_VARIANTS = [(name, config) for name in NAMES for config in [{}, *VARIANTS.get(name, [])]]
SIZE = {"sskd": {"batch": 8}}  # a multiple of its views
every_variant = pytest.mark.parametrize(
    ("name", "config"),
    ALL_VARIANTS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())) or "default",
)


def all_terms(name):
    """Weights under which every term of the method is computed."""
    return dict.fromkeys(configure(name).weights, 1.0)


def pair(name, seed=0):
    """Features of two networks that the method can serve, of different widths where it connects them."""
    widths = {"channels": (3, 4, 6, 5)} if name in IMPOSSIBLE else {}
    size = SIZE.get(name, {})
    return student_features(seed=seed, **size), teacher_features(seed=seed + 1000, **widths, **size)


# Terms and gradients
@every_variant
def test_terms_are_finite_scalars_of_the_declared_names(name, config):
    for weights in ({}, all_terms(name)):
        method = make(name, *pair(name), weights=weights, **config)
        for seed in range(2):
            terms = terms_of(method, *pair(name, seed))
            assert set(terms) == set(method.terms) - {"ce"}
            assert all(term.shape == () and term.isfinite() for term in terms.values())


@every_variant
def test_gradients_reach_what_is_needed_of_the_student_and_every_parameter(name, config):
    method = make(name, *pair(name), weights=all_terms(name), **config)
    student, teacher = pair(name)
    student = with_grad(student)
    total = sum(terms_of(method, student, teacher).values(), torch.zeros(()))
    if total.requires_grad:
        total.backward()
    read = {need for need in method.needs_of_both[0] if part_of(need) not in OF_THE_TEACHER.get(name, ())}
    reached = {
        part if part in method.needs_of_both[0] or part not in BY_STAGE else f"{part}.{stage}"
        for part, leaves in tensors(student).items()
        for stage, leaf in enumerate(leaves)
        if leaf.grad is not None and leaf.grad.any()
    }
    assert reached == read, (
        f"{name} reads {sorted(reached)} of the student, but its needs name {sorted(read)}: "
        "enter what it reads of the teacher alone in OF_THE_TEACHER"
    )
    if before := sum(pretraining_terms_of(method, student, teacher).values()):
        before.backward()
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if parameter.ndim > 1:
            assert parameter.grad.any(), parameter_name


def total_of(method, student, teacher):
    """All of a method's terms, of both stages, summed."""
    terms = [*terms_of(method, student, teacher).values(), *pretraining_terms_of(method, student, teacher).values()]
    return sum(terms, torch.zeros(()))


# Parameters whose gradient is no slope on purpose: the temperature ascends, and others have learned before.
NO_SLOPE = {"ctkd": "theta", "ft": "paraphraser", "sskd": "head_teacher"}


@pytest.mark.parametrize(
    ("name", "config"), [each for each in ALL_VARIANTS if each[0] not in ("none", "wsld")], ids=str
)
def test_the_gradient_is_the_slope_of_the_terms(name, config):
    """Along a random line through all that learns: no norm, mean or deviation is held still.

    But WSLD's weights are, on purpose.
    """
    signed = SIZE.get(name, {}) | {"signed": True}  # no zeros, where a ReLU has no slope
    features, teacher = student_features(**signed), pair(name)[1]
    method = make(name, features, teacher, weights=all_terms(name), **config)
    terms_of(method, student_features(seed=7, **signed), teacher)  # fixes what the first batch does, as CRD's Z

    def learning(method):
        named = method.named_parameters()
        return [parameter for key, parameter in named if not key.startswith(NO_SLOPE.get(name, "-"))]

    generator = torch.Generator().manual_seed(3)
    line = [
        torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in [*features.tensors(), *learning(method)]
    ]

    def moved(step):
        """The total at a step along the line, of a copy of the method, whose memory moves."""
        copied, ways = copy.deepcopy(method), iter(line)
        with torch.no_grad():
            student = features.map(lambda part: part + step * next(ways))
            for parameter, way in zip(learning(copied), ways, strict=True):
                parameter += step * way
            return total_of(copied, student, teacher).item()

    step = 1e-7  # hardly ever across the edge of a ReLU
    slope = (moved(step) - moved(-step)) / (2 * step)
    student = with_grad(features)
    leaves = [*student.tensors(), *learning(method)]
    gradients = torch.autograd.grad(total_of(method, student, teacher), leaves, allow_unused=True)
    along = [(x * way).sum().item() for x, way in zip(gradients, line, strict=True) if x is not None]
    held = f"what {name} holds still on purpose, as by no_grad, is to be entered in NO_SLOPE"
    assert sum(along) == pytest.approx(slope, rel=1e-5, abs=1e-6), held


@every_variant
def test_serves_an_epoch_whose_last_batch_is_one_sample(name, config):
    method = make(name, *pair(name), weights=all_terms(name), **config)
    terms_of(method, *pair(name))
    lone = [first(features, method.num_views) for features in pair(name, seed=5)]
    student, teacher = with_grad(lone[0]), lone[1]
    batch = (TARGET[:1].repeat(method.num_views), INDEX[:1].repeat(method.num_views))
    terms = method(method.predict(student), teacher, *batch)
    if method.pretraining:
        terms |= method.pretrain(student if method.pretraining.student else None, teacher, *batch)
    assert all(term.isfinite() for term in terms.values())
    total = sum(terms.values(), torch.zeros(()))
    if total.requires_grad:
        total.backward()
    leaves = [leaf for part in tensors(student).values() for leaf in part]
    assert all(leaf.grad.isfinite().all() for leaf in [*leaves, *method.parameters()] if leaf.grad is not None)


def first(features, count):
    """The features of the first `count` samples."""
    return features.map(lambda part: part[:count])


@every_variant
def test_leaves_the_features_as_they_are(name, config):
    student, teacher = pair(name)
    before = copy.deepcopy([tensors(student), tensors(teacher)])
    terms_of(make(name, student, teacher, weights=all_terms(name), **config), student, teacher)
    for old, new in zip(before, (tensors(student), tensors(teacher)), strict=True):
        assert all(torch.equal(a, b) for part in old for a, b in zip(old[part], new[part], strict=True))


@every_variant
def test_gives_the_same_from_the_parts_that_it_declares(name, config):
    every = frozenset({"logits", "embedding", "stages", "preacts", "final"})
    student, teacher = (features.for_loss(every) for features in pair(name))
    methods_ = [make(name, student, teacher, weights=all_terms(name), **config) for _ in range(2)]
    assert methods_[0].needs <= every
    ours, theirs = methods_[0].needs_of_both
    declared = terms_of(methods_[0], student.for_loss(ours), teacher.for_loss(theirs))
    assert same_state(declared, terms_of(methods_[1], student, teacher))


def test_a_method_that_matches_stages_is_shown_no_others():
    method = make("at", *pair("at"), stages=[[2, 1]])
    assert method.needs_of_both == ({"logits", "stages.2"}, {"logits", "stages.1"})
    together = frozenset({"logits", "stages", "stages.2", "preacts.1"})
    assert joined(together) == {"logits", "stages", "preacts.1"}


@every_variant
@pytest.mark.parametrize("all_of_them", [False, True])
def test_stands_the_trial_and_is_itself_afterwards(all_of_them, name, config):
    weights = all_terms(name) if all_of_them else {}
    method = make(name, *pair(name), weights=weights, **config)
    before = set(vars(method))
    with on_trial(method):
        if method.needs:
            terms_of(method, *pair(name))
        pretraining_terms_of(method, *pair(name))
    assert set(vars(method)) == before


@pytest.mark.parametrize(("name", "term"), [(name, term) for name in NAMES for term in all_terms(name)])
def test_a_term_without_weight_is_not_computed(name, term):
    if set(all_terms(name)) <= {"ce", term}:
        pytest.skip("its only term: without it there is no distillation")
    shown = [features.map(torch.Tensor.float) for features in pair(name)]
    method = make(name, *shown, weights=all_terms(name) | {term: 0.0})
    assert term not in method.terms
    declared = [each.for_loss(needs) for each, needs in zip(shown, method.needs_of_both, strict=True)]
    computed = terms_of(method, *declared)
    only_if = f'only if self.active("{term}")'
    assert set(computed) == set(all_terms(name)) - {"ce", term}, f"compute {term} {only_if}"
    total = sum([*computed.values(), *pretraining_terms_of(method, *shown).values()], torch.zeros(()))
    if total.requires_grad:
        total.backward()
    idle = [key for key, parameter in method.named_parameters() if parameter.grad is None]
    assert not idle, f"make {idle[0]} {only_if}"
    with torch.no_grad():
        method.diagnostics({key: value.item() for key, value in computed.items()})
        method.exhibits(*shown)


PRETRAINING = [(name, config) for name, config in ALL_VARIANTS if make(name, *pair(name), **config).pretraining]


@pytest.mark.parametrize(("name", "config"), PRETRAINING, ids=lambda value: value if isinstance(value, str) else "")
def test_the_stage_before_has_terms_of_the_declared_names_and_reads_what_it_declares(name, config):
    method = make(name, *pair(name), **config)
    student, teacher = pair(name)
    student, needs = with_grad(student), method.pretraining.needs
    with no_host_reads():
        terms = pretraining_terms_of(method, student, teacher)
    assert set(terms) == set(method.pretraining.terms)
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    leaves = tensors(student).items()
    reached = {part for part, maps in leaves if any(leaf.grad is not None and leaf.grad.any() for leaf in maps)}
    assert reached == (needs if method.pretraining.student else set())
    declared = pretraining_terms_of(method.float(), student.for_loss(needs), teacher.for_loss(needs))
    assert all(torch.allclose(terms[term].float(), declared[term]) for term in terms)


@every_variant
@pytest.mark.parametrize("part", ["preacts", "final"])
def test_what_networks_do_not_show_is_missed_at_once_or_never(part, name, config):
    """As those of a training loop of one's own may show less."""
    features = [dataclasses.replace(each, **{part: () if part == "preacts" else None}) for each in pair(name)]
    try:
        method = make(name, *features, weights=all_terms(name), **config)
    except InvalidSetting as error:
        assert f"reads {part}, which the" in str(error)
    else:
        terms_of(method, *features)
        pretraining_terms_of(method, *features)


# Random numbers and state
@every_variant
def test_equal_seeds_give_equal_modules_and_terms(name, config):
    first, second = (make(name, *pair(name), seed=3, **config) for _ in range(2))
    assert same_state(first.state_dict(), second.state_dict())
    for seed in range(2):
        assert same_state(terms_of(first, *pair(name, seed)), terms_of(second, *pair(name, seed)))


@every_variant
def test_different_seeds_give_different_modules(name, config):
    first, second = (make(name, *pair(name), seed=seed, **config) for seed in (3, 4))
    for (key, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        if a.ndim > 1:
            assert not torch.equal(a, b), key


@every_method
def test_the_state_holds_everything_that_the_next_steps_depend_on(name):
    interrupted, other = (make(name, *pair(name), seed=seed, weights=all_terms(name)) for seed in (0, 1))
    for seed in range(2):
        terms_of(interrupted, *pair(name, seed))
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    expected = [terms_of(interrupted, *pair(name, seed)) for seed in range(2, 5)]
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    resumed = [terms_of(other, *pair(name, seed)) for seed in range(2, 5)]
    assert all(same_state(a, b) for a, b in zip(expected, resumed, strict=True))


@every_method
def test_the_global_random_numbers_are_left_alone(name):
    before = torch.get_rng_state()
    terms_of(make(name, *pair(name), weights=all_terms(name)), *pair(name))
    assert torch.equal(torch.get_rng_state(), before), f"what {name} draws is to come from self.generator"


def test_building_leaves_the_gpus_global_random_numbers_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    make("crd", *pair("crd"))
    assert not seeded


@every_method
def test_the_callers_generator_is_not_drawn_from_while_building(name):
    """Connectors come from its seed; what it draws is for the training."""
    generator = torch.Generator().manual_seed(5)
    student, teacher = map(FeatureSpec.of, pair(name))
    method = methods.create(name, student, teacher, num_classes=NUM_CLASSES, targets=TARGETS, generator=generator)
    assert method.generator is generator
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())


@every_method
def test_a_copy_goes_its_own_way(name):
    """As an average of weights would need it."""
    method = make(name, *pair(name), weights=all_terms(name))
    terms_of(method, *pair(name))
    twin = copy.deepcopy(method)
    expected = terms_of(method, *pair(name, 1))
    assert same_state(terms_of(twin, *pair(name, 1)), expected)


# No host reads
@every_variant
def test_a_training_step_reads_nothing_from_the_device(name, config):
    student, teacher = pair(name)
    student = with_grad(student)
    method = make(name, student, teacher, weights=all_terms(name), **config)
    schedules = [
        LossWeights(LossConfig(schedule=schedule, warm_up=0.5).resolve(method.config), method.terms, num_steps=6)
        for schedule in ("fixed", "linear", "cosine", "adaptive")
        if schedule != "adaptive" or not method.signed_terms
    ]
    with no_host_reads():
        for step in range(4):
            terms = {"ce": student.logits.logsumexp(dim=1).mean()} | terms_of(method, student, teacher)
            stacked = torch.stack([terms[term] for term in method.terms])
            for weights in schedules:
                weights.advance(step)
                (weights.factors * stacked).sum().backward(retain_graph=True)
                weights.observe(stacked.detach())


# Configuration
@every_method
def test_the_configuration_describes_itself(name):
    cls, config = get(name), configure(name)
    assert config.name == name
    assert isinstance(config, cls.config_class)
    assert cls.summary
    assert cls.reference is None or cls.reference.url.startswith("https://")
    assert "ce" in config.weights
    for field in dataclasses.fields(config):
        assert field.metadata["help"], field.name
        assert (field.metadata["live"] is None) == (not field.metadata["live_when"]), field.name


def check_range(search, default):
    if search.choices:
        assert default in search.choices
    else:
        assert search.low <= default <= search.high
        assert search.low > 0 or not search.log


# As papers, their authors' code or RepDistiller's script have them; the terms that have no weight are left out.
PUBLISHED: dict[str, tuple[dict[str, float], dict[str, object]]] = {
    "none": ({"ce": 1}, {}),
    "kd": ({"ce": 0.1, "kd": 0.9}, {"temperature": 4}),
    "fitnet": ({"ce": 1, "hint": 100}, {"stage": 2}),
    "at": ({"ce": 1, "at": 1000}, {"p": 2}),
    "fsp": ({"ce": 1}, {"pretraining": 30 / 240}),
    "nst": ({"ce": 1, "nst": 50}, {}),
    "ft": ({"ce": 1, "ft": 500}, {"pretraining": 30 / 240, "rate": 0.5, "paraphraser_lr": 0.01}),
    "kdsvd": ({"ce": 1, "kdsvd": 1}, {"vectors": 1}),
    "pkt": ({"ce": 1, "pkt": 30000}, {}),
    "ab": ({"ce": 1}, {"pretraining": 30 / 240, "margin": 1}),
    "cc": ({"ce": 1, "cc": 100}, {"gamma": 0.4, "order": 2}),
    "ofd": ({"ce": 1, "ofd": 0.001}, {}),
    "rkd": ({"ce": 1, "distance": 25, "angle": 50}, {}),
    "sp": ({"ce": 1, "sp": 3000}, {}),
    "vid": ({"ce": 1, "vid": 1}, {"initial_variance": 5}),
    "crd": (
        {"ce": 1, "crd": 0.8},
        {"dim": 128, "num_negatives": 16384, "contrast_temperature": 0.07, "momentum": 0.5},
    ),
    "mse": ({"mse": 1}, {}),
    "wsld": ({"ce": 1, "wsld": 2.25}, {"temperature": 4}),
    "ickd": ({"ce": 1, "ickd": 2.5}, {}),
    "itrd": ({"ce": 1, "corr": 2, "mi": 1}, {"alpha": 1.01}),
    "reviewkd": ({"ce": 1, "reviewkd": 5}, {"max_width": 512, "warm_up": 20 / 240}),
    "semckd": ({"ce": 1, "kd": 1, "semckd": 400}, {"batch_size": 64}),
    "srrl": ({"ce": 1, "fm": 1, "sr": 1}, {"connects": "map"}),
    "dist": ({"ce": 1, "inter": 2, "intra": 2}, {"temperature": 4}),
    "dkd": ({"ce": 1, "tckd": 1, "nckd": 8}, {"temperature": 4, "warm_up": 20 / 240}),
    "pefd": ({"ce": 1, "pefd": 25}, {"num_projectors": 3}),
    "simkd": ({"simkd": 1}, {"factor": 2}),
    "mgd": ({"ce": 1, "mgd": 7e-5}, {"ratio": 0.15}),
    "aftkd": ({"ce": 1, "kd": 1, "afb": 3}, {"degree": 0.5, "p": 1, "schedule": "adaptive"}),  # this project's
    "catkd": ({"ce": 1, "catkd": 40}, {"resolution": 2, "normalise": True}),
    "ctkd": ({"ce": 0.1, "ctkd": 0.9}, {"lowest": 1, "span": 20, "growth": 10}),
    "mlkd": (
        dict.fromkeys(("instance", "batch", "class"), 1.8) | {"ce": 0.2},
        {"temperature": 4, "temperatures": [3, 5, 2, 6], "views": 2},
    ),
    "nkd": ({"ce": 1, "target": 1, "others": 3.5}, {"temperature": 3}),
    "abkd": ({"ce": 1, "abkd": 32}, {"temperature": 4, "alpha": 0.8, "beta": 0.3}),
    "rld": (
        {"ce": 1, "scd": 1, "mcd": 8},
        {"temperature": 4, "confidence_temperature": 4, "warm_up": 20 / 240},
    ),
    "sdd": ({"ce": 0.1, "sdd": 0.9}, {"temperature": 4, "scales": [1, 2, 4], "beta": 2}),
    "ttm": ({"ce": 1, "ttm": 45}, {"exponent": 0.1, "weighted": False}),
    "srd": ({"ce": 1, "kd": 1, "srd": 2}, {"temperature": 1, "exponent": 4}),
    "sskd": (
        {"ce": 0.1, "kd": 0.9, "tf": 2.7, "ss": 10},
        {"temperature": 4, "ss_temperature": 0.5, "ss_wrong": 0.75, "tf_wrong": 1, "pretraining": 60 / 240},
    ),
}


@every_method
def test_defaults_are_the_published_ones(name):
    if get(name).reference is None and name not in PUBLISHED:
        pytest.skip("not published yet")
    assert name in PUBLISHED, f"{name} has a reference: enter the paper's weights and settings in PUBLISHED"
    config = configure(name)
    weights, settings = PUBLISHED[name]
    assert {term: weight for term, weight in config.weights.items() if weight} == weights
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "pair_name", "settings"),
    [
        ("reviewkd", "resnet56_resnet20", {"reviewkd": 0.6}),
        ("reviewkd", "resnet110_resnet32", {"reviewkd": 1}),
        ("reviewkd", "resnet32x4_shufflev2", {"reviewkd": 8}),
        ("dkd", "resnet56_resnet20", {"nckd": 2}),
        ("dkd", "vgg13_vgg8", {"nckd": 6}),
        ("ttm", "resnet56_resnet20", {"ttm": 7, "exponent": 0.3}),
        ("ttm", "wrn40_2_shufflev1", {"ttm": 8, "exponent": 0.3}),
        ("catkd", "vgg13_vgg8", {"catkd": 4.5, "resolution": 2, "normalise": False}),
        ("catkd", "resnet32x4_shufflev1", {"catkd": 600, "resolution": 4, "normalise": True}),
        ("sdd", "vgg13_vgg8", {"scales": [1, 2]}),
        ("sdd", "resnet50_vgg8", {"scales": [1, 2, 4]}),
        ("catkd", "wrn40_2_shufflev1", {"catkd": 80, "resolution": 4, "normalise": True}),
    ],
)
def test_settings_of_a_pair_are_the_published_ones(name, pair_name, settings):
    config = configure(name).for_pair(pair_name, ())
    found = {key: config.weights.get(key, getattr(config, key, None)) for key in settings}
    assert found == settings


def test_settings_of_a_pair_that_cannot_act_are_left_alone():
    weights = {"catkd": 0.0, "kd": 1.0}
    config = configure("catkd", weights=weights).for_pair("vgg13_vgg8", ["weights.catkd", "weights.kd"])
    assert config == configure("catkd", weights=weights)


@every_method
def test_defaults_lie_in_their_search_ranges(name):
    specs = tuple(map(FeatureSpec.of, pair(name)))
    config = configure(name).resolve(*specs)
    for field in dataclasses.fields(config):
        search, default = field.metadata["search"], getattr(config, field.name)
        if isinstance(default, dict):
            for key, each in (search or {}).items():  # cross entropy sets the scale of the others
                assert key != "ce"
                check_range(each, default[key])
        elif isinstance(search, SearchEach):
            for each, entry in zip(search.of(config, *specs), default, strict=True):
                check_range(each, entry)
        elif search is not None:
            check_range(search, default)


@every_variant
def test_a_resolved_configuration_builds_the_same_method(name, config):
    student, teacher = map(FeatureSpec.of, pair(name))
    resolved = configure(name, **config).resolve(student, teacher)
    assert resolved.resolve(student, teacher) == resolved
    built = methods.build(resolved, student, teacher, NUM_CLASSES, TARGETS)
    assert built.config == resolved


@pytest.mark.parametrize(
    ("name", "config", "key"),
    [
        ("kd", {"weights": {"kd": 0.0}, "temperature": 2.0}, "temperature"),
        ("kd", {"weights": {"kd": 0.0}, "standardise": True}, "standardise"),
        ("at", {"standardise": True}, "standardise"),
        ("at", {"weights": {"at": 0.0}, "p": 1.0}, "p"),
        ("dkd", {"weights": {"tckd": 0.0, "nckd": 0.0}, "temperature": 2.0}, "temperature"),
        ("nkd", {"weights": {"others": 0.0}, "temperature": 2.0}, "temperature"),
        ("dist", {"weights": {"inter": 0.0, "intra": 0.0}, "standardise": True}, "standardise"),
        ("wsld", {"weights": {"wsld": 0.0}, "temperature": 2.0}, "temperature"),
        ("rld", {"weights": {"mcd": 0.0}, "temperature": 2.0}, "temperature"),
        ("sskd", {"weights": {"kd": 0.0, "tf": 0.0}, "temperature": 2.0}, "temperature"),
        ("sskd", {"weights": {"tf": 0.0}, "tf_wrong": 0.5}, "tf_wrong"),
        ("sskd", {"weights": {"ss": 0.0}, "ss_wrong": 0.5}, "ss_wrong"),
        ("sskd", {"weights": {"ss": 0.0}, "pretraining": 0.5}, "pretraining"),
        ("rld", {"weights": {"scd": 0.0}, "confidence_temperature": 2.0}, "confidence_temperature"),
        ("sdd", {"weights": {"sdd": 0.0}, "scales": [1]}, "scales"),
        ("sdd", {"weights": {"sdd": 0.0}, "beta": 1.0}, "beta"),
        ("ttm", {"weights": {"ttm": 0.0}, "exponent": 0.5}, "exponent"),
        ("ttm", {"weights": {"ttm": 0.0}, "weighted": True}, "weighted"),
        ("catkd", {"weights": {"catkd": 0.0}, "normalise": False}, "normalise"),
        ("cc", {"form": "adjacent", "gamma": 1.0}, "gamma"),
        ("cc", {"form": "adjacent", "order": 3}, "order"),
        ("cc", {"weights": {"cc": 0.0}, "form": "adjacent"}, "form"),
        ("vid", {"weights": {"vid": 0.0}, "train_variance": False}, "train_variance"),
        ("srd", {"weights": {"srd": 0.0}, "exponent": 2.0}, "exponent"),
        ("srrl", {"weights": {"fm": 0.0, "sr": 0.0}, "connects": "embedding"}, "connects"),
        ("itrd", {"weights": {"corr": 0.0}, "alpha": 1.5}, "alpha"),
        ("kdsvd", {"weights": {"kdsvd": 0.0}, "matrix": "columns"}, "matrix"),
        ("at", {"temperature": 2.0}, "temperature"),
        ("fitnet", {"temperature": 2.0}, "temperature"),
        ("crd", {"temperature": 2.0}, "temperature"),
        ("aftkd", {"content": "features", "degree": 0.3}, "degree"),
        ("aftkd", {"content": "attention", "degree": 0.3}, "degree"),
        ("aftkd", {"content": "features", "attention": "spatial"}, "attention"),
        ("aftkd", {"content": "features", "p": 2.0}, "p"),
        ("aftkd", {"degree": 0.0, "p": 2.0}, "p"),
        ("aftkd", {"degree": 0.0, "attention": "channel"}, "attention"),
        ("aftkd", {"content": "attention", "attention": "channel", "block_size": [2, 2, 2]}, "block_size"),
    ],
)
def test_a_setting_that_cannot_act_is_refused(name, config, key):
    with pytest.raises(InvalidSetting, match=rf"(?m)^{key}="):
        make(name, *pair(name), **config)


@pytest.mark.parametrize(
    ("name", "config", "key"),
    [
        *((name, {"weights": {"ce": -1.0}}, "weights.ce") for name in NAMES),
        *((name, {"weights": {"ce": math.nan}}, "weights.ce") for name in NAMES),
        *((name, {"weights": {"nope": 1.0}}, "weights.nope") for name in NAMES),
        *((name, {"weights": dict.fromkeys(all_terms(name), 0.0)}, "weights") for name in NAMES),
        *(("kd", {"temperature": value}, "temperature") for value in (0.0, None, "4", [4.0])),
        ("mlkd", {"temperatures": 4.0}, "temperatures"),
        ("at", {"p": 0.0}, "p="),
        ("at", {"stages": []}, "stages"),
        *(("sskd", {part: value}, part) for part in ("tf_wrong", "ss_wrong") for value in (-0.1, 1.1)),
        ("catkd", {"resolution": 0}, "resolution"),
        ("catkd", {"resolution": 5}, "resolution"),
        ("cc", {"gamma": 0.0}, "gamma"),
        ("cc", {"order": 0}, "order"),
        ("cc", {"form": "rbf"}, "form"),
        ("vid", {"initial_variance": 0.0}, "initial_variance"),
        ("kdsvd", {"vectors": 0}, "vectors"),
        ("kdsvd", {"matrix": "rows"}, "matrix"),
        ("kdsvd", {"stages": [[1, 1]]}, "stages"),
        ("dkd", {"temperature": 0.0}, "temperature"),
        *(("ttm", {"exponent": exponent}, "exponent") for exponent in (0.0, 1.5)),
        ("itrd", {"alpha": 0.0}, "alpha"),
        ("sdd", {"beta": -1.0}, "beta"),
        *(("mlkd", {"temperatures": [2, temperature]}, "temperatures") for temperature in (0, math.nan)),
        *(("sdd", {"scales": scales}, "scales") for scales in ([], [0], [1, -2], [3], [1, 1])),
        ("reviewkd", {"max_width": 0}, "max_width"),
        ("semckd", {"batch_size": 0}, "batch_size"),
        ("semckd", {"max_width": 0}, "max_width"),
        ("fitnet", {"activation": "sigmoid"}, "activation"),
        ("crd", {"dim": 0}, "dim"),
        ("crd", {"num_negatives": 0}, "num_negatives"),
        ("crd", {"contrast_temperature": 0.0}, "contrast_temperature"),
        ("crd", {"momentum": 1.0}, "momentum"),
        ("crd", {"momentum": -0.1}, "momentum"),
        ("aftkd", {"degree": 1.1}, "degree"),
        ("aftkd", {"p": 0.0}, "p="),
        ("aftkd", {"content": "feature"}, "content"),
        ("aftkd", {"attention": "spacial"}, "attention"),
    ],
)
def test_a_value_that_cannot_work_is_refused(name, config, key):
    with pytest.raises(InvalidSetting, match=key):
        make(name, *pair(name), **config)


@every_method
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_number_that_float32_does_not_hold_is_refused(name, value):
    specs, config = list(map(FeatureSpec.of, pair(name))), configure(name)
    for field in dataclasses.fields(config):
        if isinstance(getattr(config, field.name), float):
            with pytest.raises(InvalidSetting, match=f"^{field.name}={re.escape(str(value))} must be"):
                dataclasses.replace(config, **{field.name: value}).resolve(*specs)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("kd", {"standardise": "false"}, "true or false"),  # which Python takes for true
        ("mlkd", {"views": 1.5}, "a whole number"),
        ("crd", {"dim": "64"}, "a whole number"),
        ("kd", {"temperature": True}, "a number"),
        ("kd", {"weights": {"kd": "x"}}, "a number"),
        ("kd", {"weights": [1]}, "a mapping"),
    ],
)
def test_a_value_of_another_type_is_refused(name, settings, expected):
    with pytest.raises(InvalidSetting, match=f"{next(iter(settings))}.*=.*: {expected} is expected"):
        configure(name, **settings)


# Terms that compare the networks' classes.
OF_CLASSES = {name: terms for name in NAMES if (terms := get(name).config_class.soft_terms)}
OF_CLASSES |= {"catkd": ("kd", "catkd")}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_the_same_classes_are_needed_by_terms_that_compare_them_alone(name):
    student, teacher = pair(name)
    teacher = dataclasses.replace(teacher, logits=torch.cat([teacher.logits, teacher.logits[:, :1]], dim=1))
    none = all_terms(name) | dict.fromkeys(OF_CLASSES[name], 0.0)
    for term in OF_CLASSES[name]:
        both = f"the teacher knows {NUM_CLASSES + 1} classes, the student {NUM_CLASSES}: both must agree"
        with pytest.raises(InvalidSetting, match=both):
            make(name, student, teacher, weights=none | {term: 1.0})
    if name == "simkd":
        return  # its students predict by the teacher's classifier, whatever their losses
    assert set(OF_CLASSES[name]).isdisjoint(terms_of(make(name, student, teacher, weights=none), student, teacher))


@every_method
def test_weights_may_name_some_of_the_terms(name):
    default = dict(configure(name).weights)
    term = list(default)[-1]
    assert dict(configure(name, weights={term: 7.0}).weights) == default | {term: 7.0}
    assert dict(configure(name).weights) == default  # no shared dictionary was changed


# Names
@pytest.mark.parametrize(
    ("typed", "meant"), [("aft-kd", "aftkd"), ("AFTKD", "aftkd"), ("fitnets", "fitnet"), ("crdd", "crd")]
)
def test_an_unknown_method_lists_the_closest_and_all(typed, meant):
    with pytest.raises(InvalidSetting) as error:
        make(typed, *pair(typed))
    message = str(error.value)
    assert typed in message
    assert meant in message.split("closest:")[1].splitlines()[0]
    assert all(name in message for name in NAMES)


@every_method
def test_an_unknown_setting_lists_the_closest(name):
    with pytest.raises(InvalidSetting) as error:
        make(name, *pair(name), weight={"ce": 1.0})
    assert "weight" in str(error.value)
    assert "weights" in str(error.value).split("closest:")[1]


def test_nothing_like_it_gives_the_list_alone():
    with pytest.raises(InvalidSetting) as error:
        get("zzz")
    assert "closest" not in str(error.value)
    assert all(name in str(error.value) for name in NAMES)


def test_every_published_method_is_there_and_the_student_alone_is_the_first():
    assert PUBLISHED.keys() <= set(NAMES)
    assert NAMES[0] == "none"


def test_a_name_cannot_be_taken_twice():
    decorate = register("kd", get("kd").config_class, summary="another", reference=None)
    with pytest.raises(ValueError, match="two methods are called kd"):
        decorate(type("Another", (Method,), {}))
    assert get("kd").__name__ == "KD"


def test_the_batch_of_these_tests_is_one_of_distinct_samples():
    """Repeated indices in a batch would make the order of bank updates matter."""
    assert len(INDEX.unique()) == len(INDEX)


@pytest.mark.parametrize("name", [name for name in NAMES if get(name).prepare is not Method.prepare])
def test_one_that_was_not_shown_the_networks_says_what_to_call(name):
    student, teacher = pair(name)
    specs = map(FeatureSpec.of, (student, teacher))
    method = methods.create(name, *specs, num_classes=NUM_CLASSES, targets=TARGETS).to(student.logits.dtype)
    with pytest.raises(InvalidSetting, match=rf"{name} .* call method\.prepare\(teacher, student\)"):
        terms_of(method, student, teacher)


@pytest.mark.parametrize("name", ["ab", "ofd"])
def test_networks_without_maps_before_their_activation_are_refused_at_once(name):
    spec = FeatureSpec.of(student_features())
    with pytest.raises(InvalidSetting, match="preacts, which the teacher's Features do not show"):
        configure(name).resolve(spec, dataclasses.replace(spec, preacts=()))


def declared(needs=frozenset({"logits"}), name="plain", weights=None, **fields):
    """Register a method as a file would, which forgets the decorator of its dataclass where `weights` is {}."""
    options = {"name": option(name, "of the tests"), "weights": option(weights or {"ce": 1.0}, "weights")}
    config = type("Plain", (methods.MethodConfig,), options | fields)
    config.__annotations__ = {"name": str, "weights": dict[str, float]} | dict.fromkeys(fields, int)
    if weights != {}:
        config = dataclasses.dataclass(frozen=True)(config)
    register("plain", config, summary="of the tests", reference=None)(type("One", (Method,), {"needs": needs}))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"hidden": 32}, "Plain.hidden: declare it by option"),
        ({"warm_up": 0.1}, "Plain.warm_up: write it without a type"),
        ({"name": "plane"}, "Plain.name is 'plane', but its method is registered as 'plain'"),
        ({"weights": {"hint": 1.0}}, "Plain.weights lacks ce"),
        ({"weights": {}}, "Plain: write @dataclass"),
        ({"needs": "stages"}, "One.needs is a word: write frozenset({'stages'})"),
        (
            {"parts": option({"low": 1.0}, "of two", search={"high": Search(0.1, 1)})},
            "Plain.parts has a range for high, but its entries are low",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_a_declaration_is_refused_where_it_stands(mistake, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        declared(**mistake)
    assert "plain" not in methods.available()
