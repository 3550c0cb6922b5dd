"""Where networks lie otherwise than channels last: the same results, and only where it was found to be faster."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import info

from benchmarks import models
from benchmarks.config import Precision, TrainConfig
from benchmarks.models.layers import Stage
from benchmarks.training.layout import place, suit

CPU = torch.device("cpu")
FP32 = TrainConfig(precision=Precision.fp32)
# By the networks' papers: 3 x 3 convolutions whose output is at 4 x 4.
SMALL = {"vgg8": 2, "vgg13": 4, "ResNet50": 3, "resnet8x4": 0, "wrn_16_2": 0, "MobileNetV2": 0, "ShuffleV1": 0}


@pytest.fixture(autouse=True)
def avx512(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def placed(name):
    torch.manual_seed(0)
    return place(models.create(name, 10), CPU)


def by_channels(network):
    """Convolutions that lie channel by channel, but for those of 1 x 1, which lie both ways."""
    convolutions = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
    return [each for each in convolutions if not each.weight.is_contiguous(memory_format=torch.channels_last)]


@pytest.mark.parametrize(("name", "count"), SMALL.items())
def test_convolutions_of_small_maps_lie_channel_by_channel(name, count):
    network = suit(placed(name), FP32, info())
    assert len(by_channels(network)) == count


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp32])
@pytest.mark.parametrize("capability", ["AVX512", "AVX2", "DEFAULT"])
def test_what_was_not_measured_stays_channels_last(precision, capability, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = suit(placed("vgg8"), TrainConfig(precision=precision), info())
    assert bool(by_channels(network)) == (precision == Precision.fp32 and capability == "AVX512")


def test_a_student_is_left_as_it_was_but_for_its_layout():
    network = placed("vgg8").train()
    before = copy.deepcopy(network.state_dict())
    suit(network, FP32, info())
    assert all(module.training for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in network.modules())
    assert not suit(placed("vgg8").eval(), FP32, info()).training


def computed(network, images):
    """Features, and the gradients of a loss that reads logits and maps."""
    shown = network.features(images, preacts=True)
    loss = F.cross_entropy(shown.logits, torch.arange(len(images)))
    loss = loss + sum(stage.square().mean() for stage in shown.stages)
    gradients = torch.autograd.grad(loss, [each for each in network.parameters() if each.requires_grad])
    return [*shown.tensors(), torch.cat([each.flatten() for each in gradients])]


def shallow(network):
    """Two units of a stage are as many kinds of convolutions as all of them."""
    for name, stage in network.named_children():
        if isinstance(stage, Stage):
            setattr(network, name, Stage(*stage[:2]))
    return network


@pytest.mark.parametrize("name", ["vgg8", "ResNet50"])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_as_near_to_float64_as_channels_last_is(name, training):
    images = torch.randn(2, 3, 32, 32)
    usual, suited = (change(shallow(placed(name))).train(training) for change in (lambda network: network, by_fp32))
    assert by_channels(suited)
    last, ours = (computed(each, images.to(memory_format=torch.channels_last)) for each in (usual, suited))
    truth = computed(copy.deepcopy(usual).to(memory_format=torch.contiguous_format).double(), images.double())
    for found, other, exact in zip(ours, last, truth, strict=True):
        off, as_usual = ((each.double() - exact).norm() / exact.norm() for each in (found, other))
        assert off < 3 * as_usual + 1e-6


def test_maps_that_follow_lie_as_their_convolution_made_them():
    shown = by_fp32(placed("vgg8")).features(torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last))
    last = [stage.is_contiguous(memory_format=torch.channels_last) for stage in shown.stages]
    assert last == [True, True, True, False, False]


def by_fp32(network):
    return suit(network, FP32, info())
