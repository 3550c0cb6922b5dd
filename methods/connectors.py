"""Trainable maps from one network's feature space to another's, which several methods share."""

from __future__ import annotations

from torch import nn


def conv_bn(channels: int, width: int, kernel_size: int = 1) -> nn.Sequential:
    """A convolution that keeps the map's side, and batch norm: `[B, channels, H, W]` to `[B, width, H, W]`."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(width),
    )
