"""NKD: normalised knowledge distillation.

Yang et al., *From knowledge distillation to self-knowledge distillation: a unified approach with normalized
loss and customized soft labels*, ICCV 2023, arXiv:2303.13005. Two cross entropies beside that of the labels: of
the label, weighted by the teacher's probability t of it, −t log s, the term `target` (temperature 1), and of
the other classes alone, whose probabilities are normalised to sum 1, −λ² Σ t̂ log ŝ, the term `others`, with
the temperature λ; its weight is γ.

The authors chose γ = 3.5 and λ = 3 on CIFAR-100 for ResNet34 teaching ResNet18, in a protocol of their own; to
keep them for every pair is this project's choice.

Both are cross entropies, not divergences: they do not vanish where student and teacher agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option, standardise_of, temperature_of
from methods.dkd import other_classes
from methods.features import Features
from methods.kd import compared_logits
from methods.registry import register


def target_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the label, each sample weighted by the teacher's probability of it.

    Args:
        logits_student, logits_teacher: `[B, K]`.
        target: labels `[B]`.

    Returns:
        scalar, averaged over the batch.
    """
    trust = F.softmax(logits_teacher, dim=1).gather(1, target[:, None])[:, 0]
    return (trust * F.cross_entropy(logits_student, target, reduction="none")).mean()


def others_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """λ² · cross entropy of the classes but the label, of `[B, K]` logits, averaged over the batch."""
    student, teacher = (other_classes(x, target) / temperature for x in (logits_student, logits_teacher))
    return F.cross_entropy(student, F.softmax(teacher, dim=1)) * temperature**2


@dataclass(frozen=True)
class NKDConfig(DistillConfig):
    soft_terms = ("target", "others")

    name: str = option("nkd", "normalised distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "target": 1.0, "others": 3.5},
        "weight of each loss term: gamma is that of others",
        source="the authors' configuration for CIFAR-100: gamma = 3.5",
        search={"target": Search(0.1, 10.0, log=True), "others": Search(0.3, 10.0, log=True)},
    )
    temperature: float = temperature_of(
        "others", default=3.0, source="the authors' configuration for CIFAR-100: lambda = 3"
    )
    standardise: bool = standardise_of("target", "others")


@register(
    "nkd",
    NKDConfig,
    summary="soft targets of the label and of the other classes, the latter normalised",
    reference=Reference(
        "From knowledge distillation to self-knowledge distillation: a unified approach with normalized loss "
        "and customized soft labels",
        "Yang et al.",
        "ICCV",
        2023,
        "https://arxiv.org/abs/2303.13005",
    ),
)
class NKD(Method[NKDConfig]):
    """Terms `target` and `others`: see `target_loss` and `others_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        logits = compared_logits(self.config, student, teacher)
        terms = {}
        if self.active("target"):
            terms["target"] = target_loss(*logits, target)
        if self.active("others"):
            terms["others"] = others_loss(*logits, target, self.config.temperature)
        return terms
