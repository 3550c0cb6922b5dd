"""VGG for 32 × 32 images, with batch norm and one linear layer.

Simonyan & Zisserman, *Very deep convolutional networks for large-scale image recognition*, ICLR 2015, in the
shape that the field's CIFAR experiments use: five blocks, the last two at the same resolution (RepDistiller).
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models.layers import initialise_convolutions
from benchmarks.models.network import Network, register
from methods import Features
from methods.norms import BatchNorm

# Number of 3 × 3 convolutions in each of the five blocks.
DEPTHS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Network):
    """A stage is a block's output behind its ReLU and before pooling; `preacts` are before that ReLU."""

    def __init__(self, depths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels = 3
        for k, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True)):
            self.add_module(f"block{k}", Block(channels, width, depth))
            channels = width
        self.classifier = nn.Linear(channels, num_classes)
        initialise_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, x: Tensor, preacts: bool = False) -> Features:
        before, stages = [], []
        for k in range(len(WIDTHS)):
            before.append(self.get_submodule(f"block{k}")(x))
            stages.append(F.relu(before[-1]))
            # Three poolings make 4 × 4 of 32 × 32, where the last two blocks stay; a larger image has a fourth.
            pools = k < 3 or (k == 3 and stages[-1].shape[-1] > 4)
            x = F.max_pool2d(stages[-1], 2) if pools else stages[-1]
        embedding = stages[-1].mean(dim=(2, 3))
        return Features(
            stages=tuple(stages),
            # The stem shows its activated map in both lists, as in RepDistiller.
            preacts=(stages[0], *before[1:]) if preacts else (),
            embedding=embedding,
            logits=self.classifier(embedding),
            final=stages[-1],
        )

    def norms(self) -> tuple[nn.BatchNorm2d, ...]:
        blocks = (cast("nn.Sequential", self.get_submodule(f"block{k}")) for k in range(1, len(WIDTHS)))
        return tuple(cast("nn.BatchNorm2d", block[-1]) for block in blocks)


class Convolution(nn.Conv2d):
    """Before a batch norm, which takes any bias away: while it trains, none is added, and it learns none.

    The gradient of that bias is zero but for rounding, and yet costs two passes over the map. It stays what it is,
    at first zero: published checkpoints have one.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 3, padding=1)
        assert self.bias is not None
        nn.init.zeros_(self.bias.requires_grad_(False))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, None if self.training else self.bias)


class Block(nn.Sequential):
    """Convolutions with batch norm each, and ReLU between them.

    The last ReLU is the network's own, which shows both of its sides.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [Convolution(channels, width), BatchNorm(width), nn.ReLU(inplace=True)]
            channels = width
        super().__init__(*layers[:-1])

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        if self.training:
            self._add_biases_to_means()
        return output

    def _add_biases_to_means(self) -> None:
        """Let batch norms remember maps with the bias, as evaluation has them."""
        for convolution, norm in pairwise(self):
            if isinstance(convolution, Convolution) and isinstance(norm, BatchNorm):
                assert convolution.bias is not None
                assert norm.running_mean is not None
                assert norm.momentum is not None
                # Autograd does not know of it, as it does not of batch norm's own movements.
                norm.running_mean.data.add_(convolution.bias, alpha=norm.momentum)


for _name, _depths in DEPTHS.items():
    register(_name, partial(VGG, _depths))
