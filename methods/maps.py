"""What methods do with maps, `[B, C, H, W]`, before they compare them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pool_to_smaller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps with the smaller one's side: the larger is averaged over blocks, the other stays as it is."""
    side = min(first.shape[-1], second.shape[-1])
    return pool_to(first, side), pool_to(second, side)


def pool_to(feature: Tensor, side: int) -> Tensor:
    """Block means, `[B, C, side, side]`; a map of this side as it is."""
    if feature.shape[-1] == side:
        return feature
    if feature.shape[-1] % side:
        return F.adaptive_avg_pool2d(feature, side)
    # The same; but on a GPU the gradient of the other is not repeatable.
    return F.avg_pool2d(feature, feature.shape[-1] // side)


def mean_over(feature: Tensor, *dims: int) -> Tensor:
    """The mean over these dimensions, which are kept with size 1.

    The gradient of torch's own is written out as a map, in another layout than the feature's; this one's is not.
    """
    return feature.sum(dim=dims, keepdim=True) / math.prod([feature.shape[dim] for dim in dims])


def magnitude(feature: Tensor, p: float, signed: bool = True) -> Tensor:
    """|F|^p with finite gradients for every p > 0: at 0, where a root's is infinite, it is 0.

    Args:
        feature: any shape.
        p: exponent.
        signed: false spares a pass over what takes no negative values. Of p = 1 the gradient at 0 is then 1, which
            ends in the ReLU before.
    """
    if p == 2:
        return feature.square()
    size = feature.abs() if signed else feature
    return size if p == 1 else size.clamp_min(torch.finfo(feature.dtype).tiny).pow(p)
