"""ShuffleNet with three groups for 32 × 32 images.

Zhang, Zhou, Lin & Sun, *ShuffleNet: an extremely efficient convolutional neural network for mobile devices*,
CVPR 2018, table 1 (g = 3). Deviations from the paper, as in the field's CIFAR experiments: the stem is a
1 × 1 convolution at full resolution without pooling, and the depthwise convolution is followed by a ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import Stage, conv, run_stages, shuffle, units
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

GROUPS = 3
STEM = 24  # channels


class ShuffleUnit(nn.Module):
    """Grouped 1 × 1 convolutions around a depthwise one, the channels shuffled between.

    Gives its map before the ReLU: the sum with its input or, at stride 2, the branch beside the pooled input.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        branch = width if stride == 1 else width - channels
        narrow = branch // 4
        self.stride = stride
        self.groups = 1 if channels == STEM else GROUPS  # the stem has too few channels to be grouped
        self.conv1 = conv(channels, narrow, 1, groups=self.groups)
        self.bn1 = BatchNorm(narrow)
        self.conv2 = conv(narrow, narrow, 3, stride=stride, groups=narrow)
        self.bn2 = BatchNorm(narrow)
        self.conv3 = conv(narrow, branch, 1, groups=GROUPS)
        self.bn3 = BatchNorm(branch)

    def forward(self, x: Tensor) -> Tensor:
        branch = shuffle(F.relu_(self.bn1(self.conv1(x))), self.groups)
        branch = F.relu_(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        if self.stride == 1:
            return branch + x
        return torch.cat((branch, F.avg_pool2d(x, 3, self.stride, padding=1)), dim=1)


class ShuffleNetV1(Network):
    """Stages are rectified; `preacts` are before the ReLU."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, STEM, 1)
        self.bn1 = BatchNorm(STEM)
        self.layer1 = Stage(*units(ShuffleUnit, STEM, 240, 4, stride=2))
        self.layer2 = Stage(*units(ShuffleUnit, 240, 480, 8, stride=2))
        self.layer3 = Stage(*units(ShuffleUnit, 480, 960, 4, stride=2))
        self.linear = nn.Linear(960, num_classes)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        stem = F.relu_(self.bn1(self.conv1(x)))
        stages, before = run_stages(stem, self.layer1, self.layer2, self.layer3)
        embedding = stages[-1].mean(dim=(2, 3))
        return Features(stages, before if preacts else (), embedding, self.linear(embedding), final=stages[-1])


register("ShuffleV1", ShuffleNetV1, lr=0.01)
