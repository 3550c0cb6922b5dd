"""How networks lie in memory, channels last, and which of their convolutions are computed in a faster way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config import Precision, TrainConfig
from benchmarks.data import DataInfo
from benchmarks.models import Network
from benchmarks.training import winograd
from benchmarks.training.device import has_bf16


def place(network: Network, device: torch.device) -> Network:
    """A network on its device, laid out channels last, the faster layout on CPUs and GPUs alike."""
    return laid_out(network.to(device), torch.channels_last)


def laid_out(network: Network, layout: torch.memory_format) -> Network:
    """A network in a memory layout, which its maps follow."""
    # torch's annotations lack this form of `to`.
    network.to(memory_format=layout)  # type: ignore[call-overload]
    return network


def suit(network: Network, train: TrainConfig, info: DataInfo) -> Network:
    """A placed network, changed in place: on a CPU some convolutions multiply less, where that is faster.

    It shows the same as before, but for rounding. A GPU's library chooses for itself.
    """
    precision = torch.bfloat16 if train.precision == Precision.bf16 else torch.float32
    device = next(network.parameters()).device
    if device.type == "cpu" and (precision == torch.float32 or has_bf16(device)):
        for convolution, side in _convolutions(network, info.blank):
            if winograd.serves(convolution, side, precision):
                winograd.install(convolution, side, precision)
    return network


@torch.no_grad()
def _convolutions(network: Network, image: Tensor) -> list[tuple[nn.Conv2d, int]]:
    """Convolutions and the sides of the maps that they make of an image `[1, C, H, W]`."""
    found = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        found.append((module, output.shape[-1]))

    hooks = [each.register_forward_hook(note) for each in network.modules() if isinstance(each, nn.Conv2d)]
    was_training = network.training
    network.eval()(image.to(next(network.parameters())))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return found
