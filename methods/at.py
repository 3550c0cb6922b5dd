"""AT: attention transfer.

Zagoruyko & Komodakis, *Paying more attention to attention*, ICLR 2017, arXiv:1612.03928: activation-based
transfer, the map being the mean over channels of |F|^p (section 3.1). As in RepDistiller, whose weight is
the default, the squared difference of the normalised maps is averaged over positions and batch; the paper's
equation (2) takes the norm of the difference per sample instead, times β/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import Search, StageConfig, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.maps import magnitude, mean_over, pool_to_smaller
from methods.registry import register


def attention_map(feature: Tensor, p: float) -> Tensor:
    """Spatial attention: mean over channels of |F|^p, L2-normalised per sample.

    Args:
        feature: `[B, C, H, W]`.
        p: exponent.

    Returns:
        `[B, H·W]`.
    """
    return F.normalize(mean_over(magnitude(feature, p), 1).flatten(1), dim=1)


def at_loss(student: Tensor, teacher: Tensor, p: float = 2.0) -> Tensor:
    """Mean squared difference of two attention maps; the larger feature map is pooled to the smaller first.

    Args:
        student: `[B, C, H, W]`.
        teacher: `[B, C', H', W']`.

    Returns:
        scalar.
    """
    student, teacher = pool_to_smaller(student, teacher)
    return (attention_map(student, p) - attention_map(teacher, p)).square().mean()


@dataclass(frozen=True)
class ATConfig(StageConfig):
    name: str = option("at", "attention transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "at": 1000.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 1000",
        search={"at": Search(100.0, 10000.0, log=True)},
    )
    p: float = option(
        2.0,
        "exponent of the attention map",
        source="AT (ICLR 2017), sec. 4",
        search=Search(1.0, 4.0),
        above=0,
        **acts_with("at"),
    )


@register(
    "at",
    ATConfig,
    summary="spatial attention maps of every stage",
    reference=Reference(
        "Paying more attention to attention",
        "Zagoruyko & Komodakis",
        "ICLR",
        2017,
        "https://arxiv.org/abs/1612.03928",
    ),
    knowledge="attention",
)
class AT(Method[ATConfig]):
    """Term `at`: `at_loss` summed over the matched stages."""

    needs = frozenset({"logits", "stages"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("at"):
            losses = [at_loss(*pair, self.config.p) for pair in self.config.matched(student, teacher)]
            terms["at"] = torch.stack(losses).sum()
        return terms
