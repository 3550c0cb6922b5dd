"""What a network costs: parameters and multiply–accumulates."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import models
from benchmarks.data import DataInfo
from benchmarks.training.member import Classifier


@dataclass(frozen=True)
class Cost:
    """What prediction costs.

    Attributes:
        parameters: number of trained values.
        macs: multiply–accumulates of one image's forward pass, convolutions and linear layers.
    """

    parameters: int
    macs: int


@cache
def cost(network: str, info: DataInfo) -> Cost:
    """Cost of a network, by name, on a data set."""
    # Its initial weights do not matter, others' random numbers do.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = models.create(network, info.num_classes)
        macs, _ = _look(model, info)
    return Cost(sum(parameter.numel() for parameter in model.parameters()), sum(macs.values()))


def cost_of_prediction(classifier: Classifier, info: DataInfo) -> Cost:
    """Cost on a data set of a student, with what its method adds to its prediction and less what that replaces.

    Counted is what the logits depend on, be it in one of the method's own buffers.
    """
    throwaway = copy.deepcopy(classifier).cpu()
    own = [buffer for buffer in throwaway.method.buffers(recurse=False) if buffer.is_floating_point()]
    values = [value.requires_grad_() for value in (*throwaway.parameters(), *own)]
    macs, logits = _look(throwaway, info)
    macs |= {buffer: buffer.numel() for buffer in own if buffer.ndim == 2}  # a linear map of one vector
    gradients = torch.autograd.grad(logits.sum(), values, allow_unused=True)
    reached = [value for value, gradient in zip(values, gradients, strict=True) if gradient is not None]
    return Cost(sum(value.numel() for value in reached), sum(macs.get(value, 0) for value in reached))


def _look(model: nn.Module, info: DataInfo) -> tuple[dict[Tensor, int], Tensor]:
    """Multiply–accumulates by weight of a throwaway classifier's forward pass, and its logits.

    They are counted by hooks: torch's own counter takes seconds to load.
    """
    macs: dict[Tensor, int] = {}

    def count(layer: nn.Conv2d | nn.Linear, inputs: Any, output: Tensor) -> None:
        weight = layer.weight  # over whose filters or rows each value sums
        macs[weight] = macs.get(weight, 0) + output.numel() * weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    return macs, model.eval()(info.blank)
