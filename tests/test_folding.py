"""Folding batch norm changes a frozen network's work, not what it shows."""

import pytest
import torch

from benchmarks import models
from benchmarks.training.build import frozen
from benchmarks.training.folding import fold_batch_norms


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


def shown(features):
    return [*features.stages, *features.preacts, features.embedding, features.logits]


# Wide ResNets keep those behind a sum, and the one beside whose convolution there is a shortcut.
LEFT = dict.fromkeys(("vgg8", "resnet8", "ResNet50", "MobileNetV2", "ShuffleV1", "ShuffleV2"), 0) | {"wrn_16_1": 7}


@pytest.mark.parametrize(("name", "left"), LEFT.items())
def test_a_folded_network_shows_the_same(name, left):
    network = trained(name)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        before = shown(network.features(images, preacts=True))
        folded = fold_batch_norms(network)
        after = shown(folded.features(images, preacts=True))
    assert norms(folded) == left
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_folded_network_is_still_frozen():
    folded = fold_batch_norms(trained("resnet8"))
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())
