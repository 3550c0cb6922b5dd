"""What a network costs: parameters and multiply–accumulates, measured without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

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
    """Cost of a network by name, for images of `side` × `side`, counted by torch's own counter."""
    with torch.device("meta"), torch.no_grad():
        model = models.create(network, num_classes).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.empty(1, 3, side, side))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)
