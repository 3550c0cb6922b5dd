"""All thirteen pairs: every method takes a step on what their networks show, or says why it cannot."""

from __future__ import annotations

import pytest
import torch
from helpers import IMPOSSIBLE, info, tensors, with_grad
from torch.utils.flop_counter import FlopCounterMode

import methods
from benchmarks import cli, models, run
from benchmarks.costs import cost, cost_of_prediction
from benchmarks.pairs import PAIRS
from benchmarks.pairs.__main__ import COMMAND
from benchmarks.training.build import feature_spec
from benchmarks.training.member import Classifier
from methods import Features, FeatureSpec, InvalidSetting

BATCH, NUM_CLASSES = 4, 10
TARGETS = torch.arange(200) % NUM_CLASSES
NETWORKS = sorted({name for pair in PAIRS.values() for name in pair})

# Settings that say nothing about the pair and spare the tests a wide layer.
NARROW = {"semckd": {"max_width": 16}, "reviewkd": {"max_width": 16}, "ft": {"rate": 1 / 64}}


@pytest.fixture(scope="module")
def networks() -> dict[str, models.Network]:
    torch.manual_seed(0)
    return {name: models.create(name, NUM_CLASSES) for name in NETWORKS}


def shows(network: models.Network, side: int) -> Features:
    """What a network shows of one batch of noise.

    In training mode: by the statistics that batch norms begin with, a MobileNetV2's logits are equal.
    """
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.features(images, preacts=True)


@pytest.fixture(scope="module")
def shown(networks) -> dict[str, Features]:
    return {name: shows(network, 32) for name, network in networks.items()}


@pytest.fixture(scope="module")
def specs(shown) -> dict[str, FeatureSpec]:
    return {name: FeatureSpec.of(features) for name, features in shown.items()}


def check_step(shown: Features, names: set[str], compute, moves_the_student: bool = True) -> None:
    """Losses of the declared names, all finite, whose gradient reaches the student."""
    features = with_grad(shown)
    terms = compute(features)
    assert set(terms) == names
    assert all(term.isfinite() for term in terms.values())
    if not terms:
        return
    sum(terms.values()).backward()
    leaves = [leaf.grad for part in tensors(features).values() for leaf in part if leaf.grad is not None]
    assert any(grad.any() for grad in leaves) == moves_the_student
    assert all(grad.isfinite().all() for grad in leaves)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", methods.available())
def test_every_method_takes_a_step_on_every_pair_or_says_why_not(networks, shown, specs, pair, name):
    impossible, why = IMPOSSIBLE.get(name, ((), ""))
    if pair in impossible:
        teacher, student = PAIRS[pair]
        with pytest.raises(InvalidSetting, match=why):
            build(name, pair, specs[student], specs[teacher])
        return
    take_step(name, pair, networks, shown)


def build(name: str, pair: str, student: FeatureSpec, teacher: FeatureSpec) -> methods.Method:
    config = methods.configure(name, **NARROW.get(name, {})).for_pair(pair, ())
    return methods.build(config, student, teacher, NUM_CLASSES, TARGETS)


def take_step(name: str, pair: str, networks: dict[str, models.Network], shown: dict[str, Features]) -> None:
    """Let a method look at a pair's networks and take a step on what they show."""
    teacher, student = PAIRS[pair]
    method = build(name, pair, *(FeatureSpec.of(shown[network]) for network in (student, teacher)))
    method.prepare(networks[teacher], networks[student])
    method.epoch(0)
    batch = shown[teacher], TARGETS[:BATCH], torch.arange(BATCH)
    check_step(shown[student], set(method.terms) - {"ce"}, lambda ours: method(method.predict(ours), *batch))
    if stage := method.pretraining:
        check_step(shown[student], set(stage.terms), lambda ours: method.pretrain(ours, *batch), stage.student)
    assert all(parameter.grad is not None for parameter in method.parameters())


@pytest.fixture(scope="module", params=["wrn40_2_wrn16_2", "resnet32x4_shufflev2"])
def larger(request, networks) -> tuple[str, dict[str, Features]]:
    """A pair, and what it shows of images of 64 × 64."""
    return request.param, {name: shows(networks[name], 64) for name in PAIRS[request.param]}


@pytest.mark.parametrize("name", methods.available())
def test_every_method_takes_a_step_on_larger_images(networks, larger, name):
    pair, shown = larger
    if pair not in IMPOSSIBLE.get(name, ((), ""))[0]:
        take_step(name, pair, networks, shown)


@pytest.mark.parametrize("pair", PAIRS)
def test_stages_meet_by_position_and_blocks_follow_from_the_shapes(specs, pair):
    teacher, student = (specs[network] for network in PAIRS[pair])
    config = methods.configure("aftkd").resolve(student, teacher)
    assert config.stages == [[k, k] for k in range(1, len(student.stages))]
    for (s, t), size in zip(config.stages, config.block_size, strict=True):
        smaller = min(student.stages[s][1], teacher.stages[t][1])
        assert smaller % size == 0
        assert smaller // size <= 4
        assert size >= 2  # more than single positions, on every pair of the field


def test_a_shorter_student_is_spread_over_the_teachers_stages(specs):
    student, teacher = specs["resnet20"], specs["ResNet50"]
    stages = methods.configure("at").resolve(student, teacher).stages
    assert stages == [[1, 1], [2, 3], [3, 4]]
    assert methods.configure("at").resolve(teacher, student).stages == [[1, 1], [3, 2], [4, 3]]


@pytest.mark.parametrize(
    ("network", "macs"),
    # Figures of the literature in millions: He et al. (CVPR 2016) for ResNet-20, -56 and -110.
    [("resnet20", 41), ("resnet56", 126), ("resnet110", 253)],
)
def test_multiply_accumulates_are_the_known_ones(network, macs):
    assert round(cost(network, info(10)).macs / 1e6) == macs


def test_cost_counts_parameters():
    assert cost("vgg13", info(100)).parameters == sum(p.numel() for p in models.create("vgg13").parameters())


@pytest.mark.parametrize(
    "network", ["resnet8x4", "wrn_16_2", "vgg8", "ResNet50", "MobileNetV2", "ShuffleV1", "ShuffleV2"]
)
def test_multiply_accumulates_are_those_of_torchs_counter(network):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        models.create(network).eval()(torch.zeros(1, 3, 32, 32))
    assert cost(network, info(100)).macs == counter.get_total_flops() // 2


@pytest.mark.parametrize("teacher", ["resnet8", "resnet8x4"])
def test_a_reused_classifier_costs_instead_of_the_students_own(teacher):
    networks = [models.create(name, 10) for name in (teacher, "resnet8")]
    width = networks[0].head.in_features
    specs = [feature_spec(name, info(10)) for name in ("resnet8", teacher)]
    method = methods.create("simkd", *specs, num_classes=10, targets=torch.arange(10))
    method.prepare(*networks)
    found, alone = cost_of_prediction(Classifier(networks[1], method), info(10)), cost("resnet8", info(10))
    connects = 64 * width // 2 + width // 2 * width // 2 * 9 + width // 2 * width
    norms = 2 * (width // 2 + width // 2 + width)
    assert found.parameters - alone.parameters == connects + norms + 10 * (width - 64)
    assert found.macs - alone.macs == 8 * 8 * connects + 10 * (width - 64)


def test_measuring_a_cost_draws_no_random_numbers():
    before = torch.get_rng_state()
    cost.__wrapped__("resnet8", info(10))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_table_names_every_pair_and_its_published_figures(capsys, tmp_path):
    assert cli.main(COMMAND, [f"output={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert all(pair in shown for pair in PAIRS)
    assert "74.64 → 70.36" in shown  # vgg13 and vgg8 alone
    assert "RepDistiller" in shown
    for network in {network for pair in PAIRS.values() for network in pair}:
        assert f"{cost(network, info(100)).macs / 1e6:.1f} " in shown  # all to the same digit
    assert not any(tmp_path.iterdir())


def test_the_table_shows_teachers_in_the_store(capsys, tmp_path):
    argv = ["network=resnet56", "data=digits", "train.epochs=1", "train.max_steps=1", "train.batch_size=4"]
    from benchmarks import teacher

    assert cli.main(teacher.COMMAND, [*argv, f"output={tmp_path}"]) == 0
    capsys.readouterr()
    assert cli.main(COMMAND, ["data=digits", f"output={tmp_path}"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "resnet56_resnet20" in line)
    assert "(1 ep)" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "method"),
    [(pair, "aftkd") for pair in PAIRS]
    + [("vgg13_mobilenetv2", name) for name in methods.available() if name not in {"aftkd", *IMPOSSIBLE}]
    + [("vgg13_vgg8", name) for name in IMPOSSIBLE],
)
def test_the_command_trains_every_pair_and_method(pair, method, tmp_path):
    argv = [f"method={method}", f"pair={pair}", "data=digits", "train.max_steps=2", "train.epochs=1"]
    assert cli.main(run.COMMAND, [*argv, f"output={tmp_path}", "tracking.mode=disabled"]) == 0
