"""ShuffleNet V2 (1×) for 32 × 32 images.

Ma, Zhang, Zheng & Sun, *ShuffleNet V2: practical guidelines for efficient CNN architecture design*, ECCV
2018, table 5. Deviation from the paper, as in the field's CIFAR experiments: the stem is a 1 × 1 convolution
at full resolution without pooling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import Stage, conv, run_stages, shuffle
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

STEM, EMBEDDING = 24, 1024  # channels


class BasicUnit(nn.Module):
    """Half of the channels pass as they are; gives both halves before ReLU and shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv(half, half, 1)
        self.bn1 = BatchNorm(half)
        self.conv2 = conv(half, half, 3, groups=half)
        self.bn2 = BatchNorm(half)
        self.conv3 = conv(half, half, 1)
        self.bn3 = BatchNorm(half)

    def forward(self, x: Tensor) -> Tensor:
        kept, branch = x.chunk(2, dim=1)
        branch = F.relu_(self.bn1(self.conv1(branch)))
        branch = self.bn2(self.conv2(branch))
        return torch.cat((kept, self.bn3(self.conv3(branch))), dim=1)


class DownUnit(nn.Module):
    """Two branches at stride 2 make the two halves; gives them before ReLU and shuffle."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = conv(channels, channels, 3, stride=2, groups=channels)
        self.bn1 = BatchNorm(channels)
        self.conv2 = conv(channels, half, 1)
        self.bn2 = BatchNorm(half)
        self.conv3 = conv(channels, half, 1)
        self.bn3 = BatchNorm(half)
        self.conv4 = conv(half, half, 3, stride=2, groups=half)
        self.bn4 = BatchNorm(half)
        self.conv5 = conv(half, half, 1)
        self.bn5 = BatchNorm(half)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = self.bn2(self.conv2(left))
        right = F.relu_(self.bn3(self.conv3(x)))
        right = self.bn4(self.conv4(right))
        right = self.bn5(self.conv5(right))
        return torch.cat((left, right), dim=1)


class ShuffledStage(Stage):
    def activate(self, preact: Tensor) -> Tensor:
        # The half that a unit passes on is rectified already, so that one ReLU serves both halves.
        return shuffle(F.relu(preact), groups=2)


class ShuffleNetV2(Network):
    """Stages are rectified and shuffled; `preacts` are before both, hence in another channel order."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, STEM, 1)
        self.bn1 = BatchNorm(STEM)
        self.layer1 = _stage(STEM, 116, 4)
        self.layer2 = _stage(116, 232, 8)
        self.layer3 = _stage(232, 464, 4)
        self.conv2 = conv(464, EMBEDDING, 1)
        self.bn2 = BatchNorm(EMBEDDING)
        self.linear = nn.Linear(EMBEDDING, num_classes)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        stem = F.relu_(self.bn1(self.conv1(x)))
        stages, before = run_stages(stem, self.layer1, self.layer2, self.layer3)
        final = F.relu_(self.bn2(self.conv2(stages[-1])))
        embedding = final.mean(dim=(2, 3))
        return Features(stages, before if preacts else (), embedding, self.linear(embedding), final)


def _stage(channels: int, width: int, depth: int) -> ShuffledStage:
    return ShuffledStage(DownUnit(channels, width), *(BasicUnit(width) for _ in range(depth - 1)))


register("ShuffleV2", ShuffleNetV2, lr=0.01)
