"""Relations that several methods compare: between the samples of a batch, and between the channels of maps."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-12  # the square of a distance between rows that coincide


def gram(rows: Tensor) -> Tensor:
    """Inner products of all pairs: `[B, …]`, each sample flattened, to `[B, B]`."""
    rows = rows.flatten(1)
    return rows @ rows.T


def squared_distances(rows: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs in float64, `[B, D]` to `[B, B]`; about 0 where rows coincide.

    From the inner products: B² values instead of B² D. In float32 their cancellation would leave nothing of the
    distance between near rows.
    """
    products = gram(rows.double())
    squares = products.diagonal()
    return squares[:, None] + squares[None, :] - 2 * products


def pairwise_distances(rows: Tensor) -> Tensor:
    """Euclidean distances of all pairs in float64, `[B, D]` to `[B, B]`; 0, gradient too, where rows coincide."""
    squared = squared_distances(rows)
    return torch.where(squared > EPS, squared.clamp_min(EPS).sqrt(), 0.0)


def channel_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over positions of all pairs of channels.

    Args:
        first: `[B, C, H, W]`.
        second: `[B, C', H, W]`.

    Returns:
        `[B, C, C']`.
    """
    return first.flatten(2) @ second.flatten(2).transpose(1, 2)
