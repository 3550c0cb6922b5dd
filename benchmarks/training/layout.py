"""How networks lie in memory: channels last, the faster layout on CPUs and GPUs alike, but where maps are small.

For channels last, oneDNN works row by row through a map. At 4 × 4, with hundreds of channels, that takes one and a
half times as long as in its own layout, which it chooses for maps that lie channel by channel (float32, AVX-512: a
fifth of a VGG's step). Other processors and precisions have other kernels and were not measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config import Precision, TrainConfig
from benchmarks.data import DataInfo
from benchmarks.models import Network

SMALL = 4  # side of a map


def place(network: Network, device: torch.device) -> Network:
    """A network on its device, laid out channels last."""
    return laid_out(network.to(device), torch.channels_last)


def laid_out(network: Network, layout: torch.memory_format) -> Network:
    """A network in a memory layout, which its maps follow."""
    # torch's annotations lack this form of `to`.
    network.to(memory_format=layout)  # type: ignore[call-overload]
    return network


def suit(network: Network, train: TrainConfig, info: DataInfo) -> Network:
    """A placed network, changed in place: what it computes faster on a data set channel by channel lies so.

    It shows the same as before, but for what is added in another order.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    if on_cpu and train.precision == Precision.fp32 and torch.backends.cpu.get_cpu_capability() == "AVX512":
        for convolution in _on_small_maps(network, info.blank):
            convolution.weight.data = convolution.weight.data.contiguous()
            convolution.register_forward_pre_hook(_channel_by_channel)
    return network


def _channel_by_channel(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].contiguous(),)


@torch.no_grad()
def _on_small_maps(network: Network, image: Tensor) -> list[nn.Conv2d]:
    """Convolutions of all channels, more than a position wide, that make small maps of an image `[1, C, H, W]`."""
    found = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        if output.shape[-1] <= SMALL and module.kernel_size[0] > 1 and module.groups == 1:
            found.append(module)

    hooks = [each.register_forward_hook(note) for each in network.modules() if isinstance(each, nn.Conv2d)]
    was_training = network.training
    network.eval()(image.to(next(network.parameters())))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return found
