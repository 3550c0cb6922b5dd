"""What a network costs: parameters and multiply–accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import models


@dataclass(frozen=True)
class Cost:
    """Attributes:
    parameters: number of trainable values.
    macs: multiply–accumulates of one image's forward pass, convolutions and linear layers.
    """

    parameters: int
    macs: int


@cache
def cost(network: str, num_classes: int, side: int = 32) -> Cost:
    """Cost of a network by name, for images of `side` × `side`."""
    with torch.random.fork_rng(devices=[]):  # its initial weights do not matter, others' random numbers do
        model = models.create(network, num_classes).eval()
    return cost_of(model, side)


def cost_of(model: nn.Module, side: int = 32) -> Cost:
    """Cost of a throwaway classifier, on the CPU in eval mode, from images to logits."""
    return Cost(sum(parameter.numel() for parameter in model.parameters()), _macs(model, side))


@torch.no_grad()
def _macs(model: nn.Module, side: int) -> int:
    """Counted by hooks on one forward pass: torch's own counter takes seconds to load."""
    counts = []

    def count(layer: nn.Conv2d | nn.Linear, inputs: Any, output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())  # a value sums over its filter's or row's weights

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(torch.zeros(1, 3, side, side))
    return sum(counts)
