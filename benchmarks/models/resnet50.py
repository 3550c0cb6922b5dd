"""ResNet-50 with a stem for 32 × 32 images.

He, Zhang, Ren & Sun, *Deep residual learning for image recognition*, CVPR 2016, table 1. Deviations from the
paper, as in the field's CIFAR experiments: the stem is a 3 × 3 convolution at full resolution without
pooling, and a stage reduces the resolution in the 3 × 3 convolution of its first unit instead of the 1 × 1
before it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import Stage, conv, initialise_convolutions, last_norms, run_stages, shortcut, units
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm


class BottleneckUnit(nn.Module):
    """A 3 × 3 convolution on a quarter of the channels beside a shortcut; gives their sum before its ReLU."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        narrow = width // 4
        self.conv1 = conv(channels, narrow, 1)
        self.bn1 = BatchNorm(narrow)
        self.conv2 = conv(narrow, narrow, 3, stride=stride)
        self.bn2 = BatchNorm(narrow)
        self.conv3 = conv(narrow, width, 1)
        self.bn3 = BatchNorm(width)
        self.shortcut = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu_(self.bn1(self.conv1(x)))
        branch = F.relu_(self.bn2(self.conv2(branch)))
        return self.bn3(self.conv3(branch)) + self.shortcut(x)


class ResNet50(Network):
    """Stages are rectified; `preacts` are the sums before the ReLU."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, 64, 3)
        self.bn1 = BatchNorm(64)
        self.layer1 = Stage(*units(BottleneckUnit, 64, 256, 3, stride=1))
        self.layer2 = Stage(*units(BottleneckUnit, 256, 512, 4, stride=2))
        self.layer3 = Stage(*units(BottleneckUnit, 512, 1024, 6, stride=2))
        self.layer4 = Stage(*units(BottleneckUnit, 1024, 2048, 3, stride=2))
        self.linear = nn.Linear(2048, num_classes)
        initialise_convolutions(self)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        stem = F.relu_(self.bn1(self.conv1(x)))
        stages, before = run_stages(stem, self.layer1, self.layer2, self.layer3, self.layer4)
        embedding = stages[-1].mean(dim=(2, 3))
        return Features(stages, before if preacts else (), embedding, self.linear(embedding), final=stages[-1])

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        return last_norms((self.layer1, self.layer2, self.layer3, self.layer4), "bn3")


register("ResNet50", ResNet50)
