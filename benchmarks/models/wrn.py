"""Wide residual networks for 32 × 32 images.

Zagoruyko & Komodakis, *Wide residual networks*, BMVC 2016, without dropout. `wrn_d_w` has d convolutions and
w times the channels of a ResNet in its three groups.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import conv, initialise_convolutions, units
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

STEM = 16  # channels


class PreactivationUnit(nn.Module):
    """Batch norm and ReLU before each convolution, none behind the sum."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm(channels)
        self.conv1 = conv(channels, width, 3, stride=stride)
        self.bn2 = BatchNorm(width)
        self.conv2 = conv(width, width, 3)
        self.convShortcut = None if channels == width else conv(channels, width, 1, stride=stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The unit's map, and its input behind the first batch norm."""
        preact = self.bn1(x)
        rectified = F.relu(preact)  # not in place: `preact` may be a feature
        branch = self.conv2(F.relu_(self.bn2(self.conv1(rectified))))
        return branch + (x if self.convShortcut is None else self.convShortcut(rectified)), preact


class Group(nn.Module):
    """Units of one resolution."""

    def __init__(self, channels: int, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*units(PreactivationUnit, channels, width, depth, stride))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The group's map, and its input behind the first batch norm."""
        first, *others = self.layer
        x, preact = first(x)
        for unit in others:
            x, _ = unit(x)
        return x, preact


class WideResNet(Network):
    """A stage is a group's sum as it stands: signed and not normalised, the stem a bare convolution.

    Its batch norm and activation belong to the first unit of the next group, or to the head: `preacts` are
    the stages behind that batch norm. The stem shows the same map in both lists, as in RepDistiller.
    """

    def __init__(self, depth: int, widen_factor: int, num_classes: int) -> None:
        super().__init__()
        # Three groups of units of two convolutions; the stem and a shortcut in each group count too.
        num_units = (depth - 4) // 6
        widths = [widen_factor * width for width in (16, 32, 64)]
        self.conv1 = conv(3, STEM, 3)
        self.block1 = Group(STEM, widths[0], num_units, stride=1)
        self.block2 = Group(widths[0], widths[1], num_units, stride=2)
        self.block3 = Group(widths[1], widths[2], num_units, stride=2)
        self.bn1 = BatchNorm(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        initialise_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        stem = self.conv1(x)
        first, _ = self.block1(stem)
        second, first_preact = self.block2(first)
        third, second_preact = self.block3(second)
        third_preact = self.bn1(third)
        final = F.relu(third_preact)
        embedding = final.mean(dim=(2, 3))
        return Features(
            stages=(stem, first, second, third),
            preacts=(stem, first_preact, second_preact, third_preact) if preacts else (),
            embedding=embedding,
            logits=self.fc(embedding),
            final=final,
        )

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        # They belong to the first unit of the next group, and to the head.
        units = (cast("PreactivationUnit", group.layer[0]) for group in (self.block2, self.block3))
        return (*(unit.bn1 for unit in units), self.bn1)


for _depth in (16, 40):
    for _widen_factor in (1, 2):
        register(f"wrn_{_depth}_{_widen_factor}", partial(WideResNet, _depth, _widen_factor))
