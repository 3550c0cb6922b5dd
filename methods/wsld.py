"""WSLD: weighted soft labels.

Zhou et al., *Rethinking soft labels for knowledge distillation: a bias-variance tradeoff perspective*, ICLR
2021, arXiv:2102.00650. Soft labels lower the variance and may raise the bias, sample by sample, so each sample
has a weight, 1 − exp(−c_student / c_teacher), c the cross entropy of the label at temperature 1: a sample that
the student already predicts better than the teacher counts little. No gradient flows through the weight.

As in the authors' code, what is weighted is T² times the *cross entropy* of the softened class probabilities,
averaged over the batch. It differs from the divergence by the teacher's entropy, so the gradients are the same,
and the term does not vanish where student and teacher agree. With `standardise` the weights are of z-scores too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option, standardise_of, temperature_of
from methods.features import Features
from methods.kd import compared_logits
from methods.registry import register

EPS = 1e-7  # added to the teacher's cross entropy, as in the authors' code


def sample_weights(logits_student: Tensor, logits_teacher: Tensor, target: Tensor) -> Tensor:
    """1 − exp(−ratio of the label's cross entropies), in [0, 1] and without gradient.

    Args:
        logits_student, logits_teacher: `[B, K]`.
        target: labels `[B]`.

    Returns:
        `[B]`; 0 where the student is certain of the label, 1 where the teacher alone is.
    """
    with torch.no_grad():
        student, teacher = (F.cross_entropy(x, target, reduction="none") for x in (logits_student, logits_teacher))
        return -torch.expm1(-student / (teacher + EPS))


def wsld_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · cross entropy of the softened class probabilities, each sample weighted by `sample_weights`.

    Args:
        logits_student, logits_teacher: `[B, K]`.
        target: labels `[B]`.
        temperature: T > 0.

    Returns:
        scalar, averaged over the batch.
    """
    soft_labels = F.softmax(logits_teacher / temperature, dim=1)
    entropies = F.cross_entropy(logits_student / temperature, soft_labels, reduction="none")
    return (sample_weights(logits_student, logits_teacher, target) * entropies).mean() * temperature**2


@dataclass(frozen=True)
class WSLDConfig(DistillConfig):
    soft_terms = ("wsld",)

    name: str = option("wsld", "weighted soft labels")
    weights: dict[str, float] = option(
        {"ce": 1.0, "wsld": 2.25},
        "weight of each loss term: alpha is that of wsld",
        source="WSLD (ICLR 2021), sec. 5: alpha = 2.25 on CIFAR-100",
        search={"wsld": Search(0.2, 20.0, log=True)},
    )
    temperature: float = temperature_of("wsld", default=4.0, source="WSLD (ICLR 2021), sec. 5: T = 4 on CIFAR-100")
    standardise: bool = standardise_of("wsld")


@register(
    "wsld",
    WSLDConfig,
    summary="soft targets, weighted by sample: more where the teacher predicts the label better than the student",
    reference=Reference(
        "Rethinking soft labels for knowledge distillation: a bias-variance tradeoff perspective",
        "Zhou et al.",
        "ICLR",
        2021,
        "https://arxiv.org/abs/2102.00650",
    ),
)
class WSLD(Method[WSLDConfig]):
    """Term `wsld`: see `wsld_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        if not self.active("wsld"):
            return {}
        return {"wsld": wsld_loss(*compared_logits(self.config, student, teacher), target, self.config.temperature)}
