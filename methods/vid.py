"""VID: variational information distillation.

Ahn, Hu, Damianou, Lawrence & Dai, *Variational information distillation for knowledge transfer*, CVPR 2019,
arXiv:1904.05835. The mutual information of the two networks' maps is bounded from below by a Gaussian model of
the teacher's map given the student's: a regressor gives its mean μ, each channel has a variance σ² = ε +
softplus(α) of its own, learned too, and the loss is its negative logarithm without the constant, (t − μ)² / 2σ²
+ log σ, averaged over positions, channels and batch as in RepDistiller. It can be negative.

Three 1 × 1 convolutions with ReLUs between, without bias, are the regressor. The variance's parameter trains in
the student's optimiser with its weight decay, as in RepDistiller; in mdistiller it is never trained, so that
VID is a scaled regression there (`train_variance=false`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import Search, StageConfig, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register

EPS = 1e-5


def gaussian_loss(mean: Tensor, variance: Tensor, teacher: Tensor) -> Tensor:
    """Negative log-likelihood of a map under a Gaussian, without its constant.

    Args:
        mean: `[B, C, H, W]`.
        variance: of each channel, `[C]`.
        teacher: `[B, C, H, W]`.

    Returns:
        scalar, averaged over everything.
    """
    variance = variance[:, None, None]
    return ((teacher - mean).square() / variance + variance.log()).mean() / 2


class Likelihood(nn.Module):
    """The Gaussian model of one teacher stage given the student's.

    Args:
        student_channels, teacher_channels: C_s and C_t.
        initial_variance: of every channel.
        train_variance: whether the variances are learned.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, initial_variance: float, train_variance: bool
    ) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
        )
        # softplus of it is the initial variance: log(exp(v) - 1), without the overflow
        variance = initial_variance - EPS
        alpha = torch.full((teacher_channels,), variance + math.log(-math.expm1(-variance)))
        self.alpha = nn.Parameter(alpha) if train_variance else nn.Buffer(alpha)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """`gaussian_loss` of maps `[B, C_s, H, W]` and `[B, C_t, H', W']`, the larger pooled to the smaller."""
        student, teacher = pool_to_smaller(student, teacher)
        return gaussian_loss(self.regressor(student), F.softplus(self.alpha) + EPS, teacher)


@dataclass(frozen=True)
class VIDConfig(StageConfig):
    name: str = option("vid", "variational information distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "vid": 1.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 1",
        search={"vid": Search(0.1, 10.0, log=True)},
    )
    initial_variance: float = option(
        5.0,
        "variance of every channel at the start",
        source="RepDistiller: init_pred_var = 5",
        search=Search(1.0, 10.0),
        above=EPS,
        **acts_with("vid"),
    )
    train_variance: bool = option(
        True,
        "learn the variances; otherwise they stay as they start",
        source="VID (CVPR 2019), sec. 2; mdistiller does not",
        search=Search(choices=(True, False)),
        **acts_with("vid"),
    )


@register(
    "vid",
    VIDConfig,
    summary="likelihood of every stage's map under a learned Gaussian",
    reference=Reference(
        "Variational information distillation for knowledge transfer",
        "Ahn et al.",
        "CVPR",
        2019,
        "https://arxiv.org/abs/1904.05835",
    ),
)
class VID(Method[VIDConfig]):
    """Term `vid`: `gaussian_loss` summed over the matched stages; below 0 where the model is sure and right."""

    needs = frozenset({"logits", "stages"})
    signed_terms = frozenset({"vid"})

    def __init__(self, config: VIDConfig, context: Context) -> None:
        super().__init__(config, context)
        matched = config.matched(context.student, context.teacher) if self.active("vid") else []
        models = [Likelihood(s[0], t[0], config.initial_variance, config.train_variance) for s, t in matched]
        self.likelihoods = cast("Sequence[Likelihood]", nn.ModuleList(models))

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("vid"):
            pairs = zip(self.likelihoods, self.config.matched(student, teacher), strict=True)
            terms["vid"] = torch.stack([likelihood(*pair) for likelihood, pair in pairs]).sum()
        return terms
