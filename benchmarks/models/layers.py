"""Pieces that several families of networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from methods.norms import BatchNorm


def conv(channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the sides of a map at stride 1; without bias, which batch norm provides."""
    return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def shortcut(channels: int, width: int, stride: int) -> nn.Sequential:
    """What a residual branch is added to: the unit's input, projected where the shapes differ."""
    if stride == 1 and channels == width:
        return nn.Sequential()  # the identity
    return nn.Sequential(conv(channels, width, 1, stride=stride), BatchNorm(width))


def units(
    unit: Callable[[int, int, int], nn.Module], channels: int, width: int, depth: int, stride: int
) -> list[nn.Module]:
    """`depth` of `unit(channels, width, stride)`, of which the first changes channels and resolution."""
    return [unit(channels, width, stride), *(unit(width, width, 1) for _ in range(depth - 1))]


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class Stage(nn.Sequential):
    """Units of one resolution, each of which gives its map before the ReLU."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last unit's map behind its ReLU and before it."""
        for unit in self:
            preact = unit(x)
            x = self.activate(preact)
        return x, preact

    def activate(self, preact: Tensor) -> Tensor:
        return F.relu(preact)  # not in place: distillation may ask for both sides


def run_stages(stem: Tensor, *stages: Stage) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The maps of a rectified stem and of the stages that follow it, behind and before their ReLU.

    The stem shows its activated map in both, as in RepDistiller.
    """
    maps, preacts = [stem], [stem]
    for stage in stages:
        x, preact = stage(maps[-1])
        maps.append(x)
        preacts.append(preact)
    return tuple(maps), tuple(preacts)


def last_norms(stages: Iterable[Stage], name: str) -> tuple[nn.BatchNorm2d, ...]:
    """The batch norm `name` of each stage's last unit."""
    return tuple(cast("nn.BatchNorm2d", getattr(stage[-1], name)) for stage in stages)


def initialise_convolutions(network: nn.Module) -> None:
    """Normal with variance 2 / fan-out: He et al., *Delving deep into rectifiers*, ICCV 2015."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
