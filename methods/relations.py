"""Relations that several methods compare: between the samples of a batch, and between the channels of maps."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-12


def gram(rows: Tensor) -> Tensor:
    """Inner products of all pairs: `[B, …]`, each sample flattened, to `[B, B]`."""
    rows = rows.flatten(1)
    return rows @ rows.T


def off_diagonal(square: Tensor) -> Tensor:
    """A matrix like `square`, `[B, B]`, with 0 on the diagonal and 1 elsewhere."""
    return 1 - torch.eye(len(square), dtype=square.dtype, device=square.device)


def pairwise_distances(rows: Tensor) -> Tensor:
    """Euclidean distances of all pairs, `[B, D]` to `[B, B]`; 0 on the diagonal, with finite gradients.

    From the inner products: B² values instead of B² D. The rows are centred first, since what they have in common
    cancels in the distances, but not exactly.
    """
    products = gram(rows - rows.mean(dim=0))
    squares = products.diagonal()
    squared = squares[:, None] + squares[None, :] - 2 * products
    return squared.clamp_min(EPS).sqrt() * off_diagonal(squared)


def channel_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over positions of all pairs of channels.

    Args:
        first: `[B, C, H, W]`.
        second: `[B, C', H, W]`.

    Returns:
        `[B, C, C']`.
    """
    return first.flatten(2) @ second.flatten(2).transpose(1, 2)
