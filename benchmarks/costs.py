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
    macs: multiply–accumulates of one 32 × 32 image's forward pass, convolutions and linear layers.
    """

    parameters: int
    macs: int


@cache
def cost(network: str, num_classes: int) -> Cost:
    """Cost of a network by name."""
    with torch.random.fork_rng(devices=[]):  # its initial weights do not matter, others' random numbers do
        model = models.create(network, num_classes).eval()
    return cost_of(model)


def cost_of(model: nn.Module) -> Cost:
    """Cost of a throwaway classifier, on the CPU in eval mode, from images to logits."""
    return Cost(sum(parameter.numel() for parameter in model.parameters()), _macs(model))


@torch.no_grad()
def _macs(model: nn.Module) -> int:
    """Counted by hooks on one forward pass: torch's own counter takes seconds to load."""
    counts = []

    def count(layer: nn.Conv2d | nn.Linear, inputs: Any, output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())  # a value sums over its filter's or row's weights

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model(torch.zeros(1, 3, 32, 32))
    return sum(counts)
