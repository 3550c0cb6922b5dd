"""ResNet for 32 × 32 images.

He, Zhang, Ren & Sun, *Deep residual learning for image recognition*, CVPR 2016, section 4.2. Deviation from
the paper, as in the field's experiments: where shapes differ, the shortcut is a 1 × 1 convolution instead of
padding with zeros. The `x4` variants are wider, four times in their three stages and twice in their stem.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import Stage, conv, initialise_convolutions, last_norms, run_stages, shortcut, units
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

# Channels of the stem and of the three stages.
NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


class BasicUnit(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; gives their sum before its ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, width, 3, stride=stride)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = BatchNorm(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu_(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(branch)) + self.downsample(x)


class ResNet(Network):
    """Stages are rectified; `preacts` are the sums before the ReLU."""

    def __init__(self, depth: int, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        stem, *stages = widths
        num_units = (depth - 2) // 6  # three stages of units of two convolutions, the stem and the classifier
        self.conv1 = conv(3, stem, 3)
        self.bn1 = BatchNorm(stem)
        self.layer1 = Stage(*units(BasicUnit, stem, stages[0], num_units, stride=1))
        self.layer2 = Stage(*units(BasicUnit, stages[0], stages[1], num_units, stride=2))
        self.layer3 = Stage(*units(BasicUnit, stages[1], stages[2], num_units, stride=2))
        self.fc = nn.Linear(stages[2], num_classes)
        initialise_convolutions(self)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        stem = F.relu_(self.bn1(self.conv1(x)))
        stages, before = run_stages(stem, self.layer1, self.layer2, self.layer3)
        embedding = stages[-1].mean(dim=(2, 3))
        return Features(stages, before if preacts else (), embedding, self.fc(embedding), final=stages[-1])

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return last_norms((self.layer1, self.layer2, self.layer3), "bn2")


for _depth in (8, 14, 20, 32, 44, 56, 110):
    register(f"resnet{_depth}", partial(ResNet, _depth, NARROW))
for _depth in (8, 32):
    register(f"resnet{_depth}x4", partial(ResNet, _depth, WIDE))
