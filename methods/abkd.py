"""ABKD: soft targets by an α-β-divergence.

Wang et al., *ABKD: pursuing a proper allocation of the probability mass in knowledge distillation via
α-β-divergence*, ICML 2025, arXiv:2505.04560. Of the teacher's probabilities p and the student's q,

    D(p ‖ q) = Σ_k (α / (α + β) p_k^(α+β) + β / (α + β) q_k^(α+β) − p_k^α q_k^β) / (α β)

is the divergence of Kullback and Leibler for α = 1, β → 0, and the reverse one for α = 0, β = 1. The smaller α, the
more the loss heeds the classes that the student is most wrong about; the larger β, the more those that it is most
confident of.

As in the authors' code the probabilities are softened by T, there is no factor T², and the divergence is averaged
over the batch. α = 0.8, β = 0.3 and the weight 32 are those of the command in their README, for resnet56_resnet20;
to keep them for other pairs, of which nothing is public, is this project's choice. So are T = 4 and the weight 1 of
the cross entropy: the defaults of CRD's harness, on which their code builds by way of TTM's. Where α or β is 0, the
divergence here is the formula's limit, which their code multiplies by the other of the two. Powers are taken of
log-probabilities, which do not underflow as the probabilities of their code may.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, require, standardise_of, temperature_of
from methods.features import Features, FeatureSpec
from methods.kd import compared_logits
from methods.registry import register

LEAST = 0.01  # power but 0: below it rounding outweighs the divergence


def ab_divergence(log_student: Tensor, log_teacher: Tensor, alpha: float, beta: float) -> Tensor:
    """D(teacher ‖ student).

    Args:
        log_student, log_teacher: log-probabilities `[B, K]`.
        alpha, beta: of the teacher's and the student's powers; each 0 or `LEAST` and more.

    Returns:
        scalar, summed over classes, averaged over the batch.
    """
    if alpha and beta:
        total = alpha + beta
        means = (alpha * (total * log_teacher).exp() + beta * (total * log_student).exp()) / total
        parts = (means - (alpha * log_teacher + beta * log_student).exp()) / (alpha * beta)
    elif alpha:
        parts = _limit(log_student, log_teacher, alpha)
    elif beta:
        parts = _limit(log_teacher, log_student, beta)
    else:
        parts = (log_student - log_teacher).square() / 2
    return parts.sum(dim=1).mean()


def _limit(log_student: Tensor, log_teacher: Tensor, alpha: float) -> Tensor:
    """That of β → 0, class by class."""
    student, teacher = ((alpha * each).exp() for each in (log_student, log_teacher))
    return (teacher * alpha * (log_teacher - log_student) - teacher + student) / alpha**2


@dataclass(frozen=True)
class ABKDConfig(DistillConfig):
    soft_terms = ("abkd",)

    name: str = option("abkd", "soft targets by an alpha-beta-divergence")
    weights: dict[str, float] = option(
        {"ce": 1.0, "abkd": 32.0},
        "weight of each loss term",
        source="the authors' README, for resnet56_resnet20: 32",
        search={"abkd": Search(3.0, 300.0, log=True)},
    )
    temperature: float = temperature_of("abkd", default=4.0, source="CRD (ICLR 2020), sec. 4: T = 4")
    standardise: bool = standardise_of("abkd")
    alpha: float = option(
        0.8,
        "of the teacher's powers: the smaller, the more the classes count that the student is most wrong about",
        source="the authors' README, for resnet56_resnet20: 0.8",
        search=Search(0.1, 1.2),
        least=0,
        **acts_with("abkd"),
    )
    beta: float = option(
        0.3,
        "of the student's powers: the larger, the more the classes count that it is most confident of",
        source="the authors' README, for resnet56_resnet20: 1.1 less alpha",
        search=Search(0.1, 1.0),
        least=0,
        **acts_with("abkd"),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> ABKDConfig:
        for name, power in (("alpha", self.alpha), ("beta", self.beta)):
            require(not 0 < power < LEAST, f"{name}={power}: 0 or at least {LEAST} is expected")
        return super().resolve(student, teacher)


@register(
    "abkd",
    ABKDConfig,
    summary="soft targets by a divergence between that of Kullback and Leibler and the reverse one",
    reference=Reference(
        "ABKD: pursuing a proper allocation of the probability mass in knowledge distillation via α-β-divergence",
        "Wang et al.",
        "ICML",
        2025,
        "https://arxiv.org/abs/2505.04560",
    ),
)
class ABKD(Method[ABKDConfig]):
    """Term `abkd`: `ab_divergence` of the softened class probabilities."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        if not self.active("abkd"):
            return {}
        logits = compared_logits(self.config, student, teacher)
        ours, theirs = (F.log_softmax(each / self.config.temperature, dim=1) for each in logits)
        return {"abkd": ab_divergence(ours, theirs, self.config.alpha, self.config.beta)}
