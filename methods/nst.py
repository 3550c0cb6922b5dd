"""NST: neuron selectivity transfer.

Huang & Wang, *Like what you like: knowledge distill via neuron selectivity transfer*, 2017, arXiv:1707.01219. A
channel's map, of unit length, is one sample of what a stage's neurons select; the squared maximum mean
discrepancy of the student's and the teacher's samples is to vanish (equation 6), with the polynomial kernel
k(x, y) = (xᵀy)² that the paper recommends (degree 2, offset 0). No connector: the numbers of channels may
differ.

The kernel is never materialised over B × C × C' × H·W: it follows from matrix products. With X the normalised
maps of a sample, `[C, H·W]`, the mean over channel pairs of (xᵢᵀyⱼ)² is ⟨XᵀX / C, YᵀY / C'⟩, so the discrepancy
is the squared Frobenius distance of two `[H·W, H·W]` matrices; where channels are fewer than positions, the
`[C, C']` products are the smaller way to the same number. RepDistiller's weight and reductions: averaged over
the batch, summed over stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import Search, StageConfig, option
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register
from methods.relations import channel_products


def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels' maps; the larger map is pooled to the smaller first.

    Args:
        student: `[B, C, H, W]`.
        teacher: `[B, C', H', W']`.

    Returns:
        scalar, averaged over the batch.
    """
    student, teacher = (F.normalize(x.flatten(2), dim=2) for x in pool_to_smaller(student, teacher))
    if student.shape[2] < min(student.shape[1], teacher.shape[1]):
        difference = _position_products(student) - _position_products(teacher)
        return difference.square().sum(dim=(1, 2)).mean()
    return _kernel_mean(student, student) + _kernel_mean(teacher, teacher) - 2 * _kernel_mean(student, teacher)


def _position_products(maps: Tensor) -> Tensor:
    """XᵀX / C: `[B, C, N]` to `[B, N, N]`."""
    return maps.transpose(1, 2) @ maps / maps.shape[1]


def _kernel_mean(first: Tensor, second: Tensor) -> Tensor:
    """Mean of (xᵀy)² over the batch and all pairs of channels of `[B, C, N]` and `[B, C', N]`."""
    return channel_products(first, second).square().mean()


@dataclass(frozen=True)
class NSTConfig(StageConfig):
    name: str = option("nst", "neuron selectivity transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "nst": 50.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 50",
        search={"nst": Search(5.0, 500.0, log=True)},
    )


@register(
    "nst",
    NSTConfig,
    summary="where each channel is active, as a distribution over channels",
    reference=Reference(
        "Like what you like: knowledge distill via neuron selectivity transfer",
        "Huang & Wang",
        "arXiv",
        2017,
        "https://arxiv.org/abs/1707.01219",
    ),
    knowledge="attention",
)
class NST(Method[NSTConfig]):
    """Term `nst`: `nst_loss` summed over the matched stages."""

    needs = frozenset({"logits", "stages"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("nst"):
            losses = [nst_loss(*pair) for pair in self.config.matched(student, teacher)]
            terms["nst"] = torch.stack(losses).sum()
        return terms
