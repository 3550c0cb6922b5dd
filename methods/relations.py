"""Relations that several methods compare: between the samples of a batch, and between the channels of maps.

With what they are made of: lengths and directions whose gradients stay finite where there are none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SAME = 1e-14  # of the rows' squares: a squared distance that is but their rounding to float32
EQUAL = 1e-12  # of a vector's squares: a variance that is but the rounding of equal values to float32


def gram(rows: Tensor) -> Tensor:
    """Inner products of all pairs: `[B, …]`, each sample flattened, to `[B, B]`."""
    rows = rows.flatten(1)
    return rows @ rows.T


def squared_distances(rows: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs in float64, `[B, D]` to `[B, B]`.

    0 where rows coincide, and so is their gradient.

    From the inner products: B² values instead of B² D. In float32 their cancellation would leave nothing of the
    distance between near rows.
    """
    products = gram(rows.double())
    squares = products.diagonal()
    sums = squares[:, None] + squares[None, :]
    squared = sums - 2 * products
    return torch.where(squared > SAME * sums, squared, 0.0)


def unit_vectors(vectors: Tensor, dim: int = 1) -> Tensor:
    """`F.normalize` along `dim`, but that a zero vector, which has no direction, gets no gradient.

    There it would be the reciprocal of the function's epsilon, 1e12, which ends a training unless a ReLU stops it.
    A vector that is not zero gets at most the reciprocal of its norm.
    """
    return F.normalize(torch.where(vectors.any(dim=dim, keepdim=True), vectors, 0.0), dim=dim)


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 − cosine of each row of `[N, M]` and `[N, M]`, averaged: a scalar in [0, 2]; a row of zeros counts 1."""
    return 1 - (unit_vectors(first) * unit_vectors(second)).sum(dim=1).mean()


def centred(vectors: Tensor, dim: int = 1) -> Tensor:
    """Vectors along `dim` less their means; one of equal values is 0, whatever its mean was rounded to."""
    difference = vectors - vectors.mean(dim=dim, keepdim=True)
    varies = difference.square().sum(dim=dim, keepdim=True) > EQUAL * vectors.square().sum(dim=dim, keepdim=True)
    return torch.where(varies, difference, 0.0)


def root(squared: Tensor) -> Tensor:
    """The square root, whose gradient is 0 at 0."""
    return torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)


def inverse(distance: Tensor) -> Tensor:
    """The inverse, which is 0 at 0, its gradient too."""
    return torch.where(distance > 0, distance, 1.0).reciprocal() * (distance > 0)


def channel_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over positions of all pairs of channels.

    Args:
        first: `[B, C, H, W]`.
        second: `[B, C', H, W]`.

    Returns:
        `[B, C, C']`.
    """
    return first.flatten(2) @ second.flatten(2).transpose(1, 2)
