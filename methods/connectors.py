"""Trainable maps from one network's feature space to another's, which several methods share."""

from __future__ import annotations

from torch import nn

from methods.config import InvalidSetting
from methods.features import MapShape
from methods.norms import BatchNorm


def conv_bn(channels: int, width: int, kernel_size: int = 1) -> nn.Sequential:
    """A convolution that keeps the map's side, and batch norm: `[B, channels, H, W]` to `[B, width, H, W]`."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2, bias=False),
        BatchNorm(width),
    )


def conv_bn_by_fan_out(channels: int, width: int) -> nn.Sequential:
    """`conv_bn` of 1 × 1 whose weights are drawn from N(0, 2 / width)."""
    convolution, norm = conv_bn(channels, width)
    assert isinstance(convolution, nn.Conv2d)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    return nn.Sequential(convolution, norm)


def bottleneck(channels: int, width: int) -> tuple[nn.Module, ...]:
    """The layers of a projector but its last: a 1 × 1 and a 3 × 3 convolution with batch norm and ReLU each."""
    return conv_bn(channels, width), nn.ReLU(), conv_bn(width, width, kernel_size=3), nn.ReLU()


def regressor_layer(student: MapShape, teacher: MapShape) -> nn.Module:
    """The convolution that takes a student's map `(C, H, W)` to the teacher's shape."""
    (channels, side, _), (hint_channels, hint_side, _) = student, teacher
    if side == 2 * hint_side:
        return nn.Conv2d(channels, hint_channels, kernel_size=3, stride=2, padding=1)
    if 2 * side == hint_side:
        return nn.ConvTranspose2d(channels, hint_channels, kernel_size=4, stride=2, padding=1)
    if side >= hint_side:
        return nn.Conv2d(channels, hint_channels, kernel_size=1 + side - hint_side)
    raise InvalidSetting(f"stage: no regressor takes a map of side {side} to the teacher's {hint_side}")
