"""A frozen network made ready to teach works less and shows the same."""

import copy

import pytest
import torch
from helpers import info

from benchmarks import models
from benchmarks.config import Precision, TrainConfig
from benchmarks.training import layout
from benchmarks.training.build import frozen
from benchmarks.training.folding import fold_batch_norms, ready_to_teach


def trained(name):
    """A frozen network whose batch norms have statistics and affine maps of their own, in float64."""
    torch.manual_seed(0)
    network = models.create(name, 10).double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return frozen(network)


def norms(network):
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


# Wide ResNets keep those behind a sum, and the one beside whose convolution there is a shortcut.
LEFT = dict.fromkeys(("vgg8", "resnet8", "ResNet50", "MobileNetV2", "ShuffleV1", "ShuffleV2"), 0) | {"wrn_16_1": 7}


@pytest.mark.parametrize(("name", "left"), LEFT.items())
def test_a_folded_network_shows_the_same(name, left):
    network = trained(name)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        before = network.features(images, preacts=True).tensors()
        folded = fold_batch_norms(network, info())
        after = folded.features(images, preacts=True).tensors()
    assert norms(folded) == left
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_folded_network_is_still_frozen():
    folded = fold_batch_norms(trained("resnet8"), info())
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("name", ["vgg8", "resnet8", "wrn_16_1", "ShuffleV1"])
def test_weights_kept_in_the_precision_of_the_training_show_the_same_to_the_bit(name, monkeypatch):
    monkeypatch.setattr(layout, "has_bf16", lambda device: False)  # else some convolutions are computed otherwise
    network = fold_batch_norms(trained(name).float(), info())
    ready = ready_to_teach(copy.deepcopy(network), TrainConfig(precision=Precision.bf16), info())
    assert {weight.dtype for weight in ready.state_dict().values()} >= {torch.bfloat16}
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one, other = (each.features(images, preacts=True).tensors() for each in (network, ready))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_in_float32_weights_stay_as_they_are():
    network = fold_batch_norms(trained("vgg8").float(), info())
    ready = ready_to_teach(copy.deepcopy(network), TrainConfig(precision=Precision.fp32), info())
    assert all(torch.equal(weight, ready.state_dict()[name]) for name, weight in network.state_dict().items())
