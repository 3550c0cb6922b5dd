"""MobileNetV2 of half width for 32 × 32 images.

Sandler, Howard, Zhu, Zhmoginov & Chen, *MobileNetV2: inverted residuals and linear bottlenecks*, CVPR 2018,
table 2 with half the channels (the last convolution keeps its 1280, as the paper says). Deviations from the
paper, as in the field's CIFAR experiments: the second group keeps the resolution, and activations are ReLU
instead of ReLU6.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from benchmarks.models.layers import conv, initialise_convolutions, units
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

# Expansion, channels, number of units and stride of each group.
GROUPS = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
SHOWN = (1, 2, 4, 6)  # the last group of each resolution
STEM, EMBEDDING = 16, 1280  # channels


class InvertedResidual(nn.Module):
    """A depthwise convolution on more channels than the unit's ends have; the last convolution is linear."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.residual = stride == 1 and channels == width
        self.conv = nn.Sequential(
            *_rectified(conv(channels, wide, 1)),
            *_rectified(conv(wide, wide, 3, stride=stride, groups=wide)),
            conv(wide, width, 1),
            BatchNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Network):
    """Stages are linear bottlenecks, hence signed and their own `preacts`; only the stem is rectified."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_rectified(conv(3, STEM, 3, stride=2)))
        self.blocks = nn.ModuleList()
        channels = STEM
        for expansion, width, depth, stride in GROUPS:
            unit = partial(InvertedResidual, expansion=expansion)
            self.blocks.append(nn.Sequential(*units(unit, channels, width, depth, stride)))
            channels = width
        self.conv2 = nn.Sequential(*_rectified(conv(channels, EMBEDDING, 1)))
        classifier = nn.Linear(EMBEDDING, num_classes)
        self.classifier = nn.Sequential(classifier)
        initialise_convolutions(self)
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        x = self.conv1(x)
        maps = [x]
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in SHOWN:
                maps.append(x)
        stages = tuple(maps)
        final = self.conv2(x)
        embedding = final.mean(dim=(2, 3))
        return Features(stages, stages if preacts else (), embedding, self.classifier(embedding), final)


def _rectified(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, BatchNorm(convolution.out_channels), nn.ReLU(inplace=True)


register("MobileNetV2", MobileNetV2, lr=0.01)
