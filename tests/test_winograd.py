"""Winograd's convolutions against torch's in float64, and which convolutions of a network are computed so."""

import copy
import signal

import pytest
import torch
import torch.nn.functional as F
from commands import interrupted_at, same
from helpers import info
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks import models
from benchmarks.config import Precision, TrainConfig
from benchmarks.models.layers import Stage
from benchmarks.training import winograd
from benchmarks.training.layout import place, suit
from benchmarks.training.winograd import CHANNELS, Tiling, convolve, install, serves, transformed

CPU = torch.device("cpu")
FP32, BF16 = (TrainConfig(precision=precision) for precision in (Precision.fp32, Precision.bf16))
# 3 x 3 convolutions of stride 1, with as many channels as pay on the maps that they make of 32 x 32 images.
SERVED = {
    "vgg8": 4,  # one each of blocks 1 to 4
    "vgg13": 8,  # both of each
    "ResNet50": 3 + 5 + 2,  # all of stages 2 to 4 but the first, of stride 2
    "resnet8x4": 1 + 1,  # the second of stages 2 and 3
    "resnet20": 0,
    "wrn_16_2": 3,  # stage 3
    "MobileNetV2": 0,
    "ShuffleV1": 0,
}


def maps(num_images, channels, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, channels, side, side, generator=generator, dtype=torch.float64)


def with_gradients(compute, gradient, *inputs):
    """The outcome of a computation, and the gradients of its inputs."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    outcome = compute(*leaves)
    return outcome.detach(), *torch.autograd.grad(outcome, leaves, gradient)


def torchs(images, weight, bias=None):
    return F.conv2d(images, weight, bias, padding=1)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8, 12, 16, 32]), st.booleans())
def test_it_is_a_convolution(num_images, channels, width, side, biased):
    inputs = [maps(num_images, channels, side), torch.randn(width, channels, 3, 3, dtype=torch.float64)]
    if biased:
        inputs.append(torch.randn(width, dtype=torch.float64))
    gradient = maps(num_images, width, side, seed=1)
    for ours, expected in zip(
        with_gradients(lambda x, w, b=None: convolve(x, w, b, Tiling.of(side)), gradient, *inputs),
        with_gradients(torchs, gradient, *inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("side", "channels", "times"), [(4, 256, 1.5), (8, 128, 4), (16, 96, 4)])
def test_float32_rounds_it_little_more_than_torchs(side, channels, times):
    torch.manual_seed(0)
    images, gradient = maps(16, channels, side).relu(), maps(16, channels, side, seed=1)
    weight = torch.randn(channels, channels, 3, 3, dtype=torch.float64) / channels**0.5

    def off(compute):
        found = with_gradients(compute, gradient.float(), images.float(), weight.float())
        return [(each - exact).norm() / exact.norm() for each, exact in zip(found, truth, strict=True)]

    truth = with_gradients(torchs, gradient, images, weight)
    for ours, usual in zip(off(lambda x, w: convolve(x, w, None, Tiling.of(side))), off(torchs), strict=True):
        assert ours < times * usual + 5e-7  # torch's own differ fourfold among themselves, by layout


@pytest.mark.parametrize("frozen", [True, False])
def test_bfloat16_rounds_its_products_only(frozen):
    torch.manual_seed(0)
    images = maps(8, 128, 4).relu().to(memory_format=torch.channels_last).bfloat16()
    usual = convolution(frozen=frozen)
    if frozen:
        usual.bfloat16()
    ours, exact = copy.deepcopy(usual), copy.deepcopy(usual).double()
    install(ours, 4, torch.bfloat16)

    def computed(module, images):
        images = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=module is not exact):
            made = module(images)
        inputs = [images] if frozen else [images, module.weight]
        return made, *torch.autograd.grad(made.double().square().sum(), inputs)

    found, other = computed(ours, images), computed(usual, images)
    assert [each.dtype for each in found] == [each.dtype for each in other]
    for each, as_usual, expected in zip(found, other, computed(exact, images.double()), strict=True):
        off, usually = ((value.double() - expected).norm() / expected.norm() for value in (each, as_usual))
        assert off < 4 * usually


def test_fewer_multiplications_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    def operations(compute):
        with FlopCounterMode(display=False) as counter:
            compute()
        return counter.get_total_flops()

    images, weight = torch.randn(8, 512, 4, 4), torch.randn(512, 512, 3, 3)
    tiling = Tiling.of(4)
    kernels = transformed(weight, tiling)
    usual = operations(lambda: torchs(images, weight))
    assert operations(lambda: convolve(images, weight, None, tiling, kernels)) < 0.5 * usual


def convolution(*, frozen=False, **settings):
    made = torch.nn.Conv2d(128, 128, 3, **({"padding": 1} | settings))
    return made.to(memory_format=torch.channels_last).requires_grad_(not frozen)


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2},
        {"padding": 0},
        {"padding": "same"},
        {"groups": 2},
        {"dilation": 2, "padding": 2},
        {"padding_mode": "reflect"},
    ],
)
def test_other_convolutions_are_torchs(settings):
    assert serves(convolution(), 8, torch.float32)
    assert not serves(convolution(**settings), 8, torch.float32)


def test_maps_and_gradients_lie_as_their_readers_want_them():
    module = convolution()
    install(module, 8, torch.float32)
    images = torch.randn(2, 128, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    made = module(images)
    of_images, of_weight = torch.autograd.grad(made.square().sum(), (images, module.weight))
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert of_images.is_contiguous(memory_format=torch.channels_last)
    assert of_weight.stride() == module.weight.stride()


def test_without_learning_it_is_torchs_to_the_bit():
    usual = convolution()
    ours = copy.deepcopy(usual)
    install(ours, 8, torch.float32)
    images = torch.randn(2, 128, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(ours(images), usual(images))


@pytest.mark.parametrize("side", CHANNELS[torch.float32])
def test_an_image_has_the_same_map_in_any_company(side):
    """As views of a teacher that are kept have to be the same to the bit."""
    frozen = convolution(frozen=True)
    install(frozen, side, torch.float32)
    images = maps(64, 128, side).float().to(memory_format=torch.channels_last)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    made = frozen(images)
    assert torch.equal(frozen(images[order]), made[order])
    assert torch.equal(frozen(images[:40]), made[:40])


def test_kernels_of_a_frozen_convolution_are_transformed_once(monkeypatch):
    frozen, learning = convolution(frozen=True), convolution()
    install(frozen, 8, torch.float32)
    install(learning, 8, torch.float32)
    exact = copy.deepcopy(frozen).double()
    images = torch.randn(2, 128, 8, 8)
    expected = torchs(images.double(), exact.weight, exact.bias)
    torch.testing.assert_close(exact(images.double()), expected, rtol=1e-10, atol=1e-10)
    seen = []
    monkeypatch.setattr(winograd, "transformed", lambda *given: seen.append(given) or transformed(*given))
    frozen(images)
    assert not seen
    learning(images)
    assert len(seen) == 1


# Networks


def placed(name):
    torch.manual_seed(0)
    return place(models.create(name, 10), CPU)


def by_fp32(network):
    return suit(network, FP32, info())


def served(network):
    return [each for each in network.modules() if "_conv_forward" in vars(each)]


@pytest.mark.parametrize(("name", "count"), SERVED.items())
def test_convolutions_are_chosen_by_what_they_gain(name, count):
    assert len(served(by_fp32(placed(name)))) == count


@pytest.mark.parametrize(("native", "count"), [(True, 2), (False, 0)])
def test_in_bfloat16_those_of_the_smallest_maps_are_where_the_processor_has_it(native, count, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert len(served(suit(placed("vgg8"), BF16, info()))) == count


def test_a_student_is_left_as_it_was():
    network = placed("vgg8").train()
    before = copy.deepcopy(network.state_dict())
    by_fp32(network)
    assert all(module.training for module in network.modules())
    assert network.state_dict().keys() == before.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in network.modules())
    assert not by_fp32(placed("vgg8").eval()).training


def computed(network, images):
    """Features, and the gradient of a loss that reads logits and maps."""
    shown = network.features(images, preacts=True)
    loss = F.cross_entropy(shown.logits, torch.arange(len(images)))
    loss = loss + sum(stage.square().mean() for stage in shown.stages)
    gradients = torch.autograd.grad(loss, [each for each in network.parameters() if each.requires_grad])
    return shown.tensors(), torch.cat([each.flatten() for each in gradients])


def shallow(network):
    """Two units of a stage are as many kinds of convolutions as all of them."""
    for name, stage in network.named_children():
        if isinstance(stage, Stage):
            setattr(network, name, Stage(*stage[:2]))
    return network


@pytest.mark.parametrize("name", ["vgg8", "ResNet50"])
@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_as_near_to_float64_as_without(name, training):
    images = torch.randn(2, 3, 32, 32)
    usual, suited = (change(shallow(placed(name))).train(training) for change in (lambda network: network, by_fp32))
    assert served(suited)
    exact = copy.deepcopy(usual).to(memory_format=torch.contiguous_format).double()
    truth, direction = computed(exact, images.double())
    last, ours = (computed(each, images.to(memory_format=torch.channels_last)) for each in (usual, suited))
    for found, other, expected in zip(ours[0], last[0], truth, strict=True):
        off, as_usual = ((each.double() - expected).norm() / expected.norm() for each in (found, other))
        assert off < 2 * as_usual + 1e-6
    # Where rounding takes a pre-activation across zero, a gradient jumps, with torch's convolutions as with these.
    assert F.cosine_similarity(ours[1].double(), direction, dim=0) > 0.999


# Commands


def test_a_cohort_is_what_each_is_alone_and_goes_on_where_it_was_interrupted(distil, output, tmp_path):
    words = ["pair.teacher=vgg8", "pair.student=vgg8", f"teacher.root={tmp_path / 'teachers'}", "teacher.epochs=1"]
    alone = tmp_path / "alone"
    assert distil(*words, "methods=[kd]", f"output={alone}") == 0
    with interrupted_at(4):
        assert distil(*words, "methods=[at,kd]") == 128 + signal.SIGTERM
    assert distil(*words, "methods=[at,kd]") == 0
    left = [load_file(next(folder.rglob("kd/*/student.safetensors"))) for folder in (output, alone)]
    assert same(*left)
