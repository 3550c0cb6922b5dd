"""Relations that several methods compare: between the samples of a batch, and between the channels of maps."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-12


def gram(rows: Tensor) -> Tensor:
    """Inner products of all pairs: `[B, …]`, each sample flattened, to `[B, B]`."""
    rows = rows.flatten(1)
    return rows @ rows.T


def pairwise_distances(rows: Tensor) -> Tensor:
    """Euclidean distances of all pairs, `[B, D]` to `[B, B]`; 0 on the diagonal, with finite gradients.

    From the inner products, as the field does: B² values instead of B² D.
    """
    products = gram(rows)
    squares = products.diagonal()
    squared = (squares[:, None] + squares[None, :] - 2 * products).clamp_min(EPS)
    return squared.sqrt() * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


def channel_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products over positions of all pairs of channels.

    Args:
        first: `[B, C, H, W]`.
        second: `[B, C', H, W]`.

    Returns:
        `[B, C, C']`.
    """
    return first.flatten(2) @ second.flatten(2).transpose(1, 2)
