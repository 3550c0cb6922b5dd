"""DKD: decoupled knowledge distillation.

Zhao, Cui, Song, Qiu & Liang, *Decoupled knowledge distillation*, CVPR 2022, arXiv:2203.08679. Hinton's
divergence is the sum of two: of the binary distributions (label, all the others), the term `tckd`, and,
weighted by how unsure the teacher is of the label, of the distributions over the other classes alone, `nckd`
(equation 6). DKD drops that weight and gives both weights of their own, α = 1 and β (equation 7), with the
factor T² of KD.

β was chosen pair by pair, on the test set: `BETA` holds the values of mdistiller's configurations, 8 is used
elsewhere. Both terms warm up over 20 of the 240 epochs as there, but step by step; there by min(1, e / 20) for
epochs e counted from 1.

The authors of logit standardisation, by the names of their logs, have β = 2 for most pairs before they multiply
both weights, not the values of `BETA`: for vgg13_vgg8, T = 2 and 15 times both, tckd = 15 and nckd = 30.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option, standardise_of, temperature_of
from methods.features import Features
from methods.kd import compared_logits, kd_loss
from methods.registry import register

TERMS = ("tckd", "nckd")
BETA = {
    "resnet56_resnet20": 2.0,
    "resnet110_resnet32": 2.0,
    "wrn40_2_wrn16_2": 6.0,
    "wrn40_2_wrn40_1": 6.0,
    "vgg13_vgg8": 6.0,
    "vgg13_mobilenetv2": 6.0,
    "resnet32x4_resnet8x4": 8.0,
    "resnet32x4_shufflev1": 8.0,
    "resnet32x4_shufflev2": 8.0,
    "resnet50_mobilenetv2": 8.0,
    "wrn40_2_shufflev1": 8.0,
}


def other_classes(logits: Tensor, target: Tensor) -> Tensor:
    """The logits of all classes but the label, in their order: `[B, K]` and `[B]` to `[B, K − 1]`."""
    classes = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, classes + (classes >= target[:, None]))


def label_or_not(logits: Tensor, target: Tensor) -> Tensor:
    """Logits of two classes, the label and all the others together: `[B, K]` and `[B]` to `[B, 2]`."""
    others = other_classes(logits, target).logsumexp(dim=1, keepdim=True)
    return torch.cat([logits.gather(1, target[:, None]), others], dim=1)


def tckd_loss(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    temperature: float,
    class_teacher: Tensor | None = None,
) -> Tensor:
    """T² · KL of the binary distributions (label, others), of `[B, K]` logits, averaged over the batch.

    Args:
        class_teacher: the class that the teacher tells from all others, `[B]`; default: the label.
    """
    # The temperature comes before the others are put together, hence is 1 after it.
    student = label_or_not(logits_student / temperature, target)
    teacher = label_or_not(logits_teacher / temperature, target if class_teacher is None else class_teacher)
    return kd_loss(student, teacher, 1.0) * temperature**2


def nckd_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · KL of the distributions over the other classes, of `[B, K]` logits, averaged over the batch."""
    return kd_loss(other_classes(logits_student, target), other_classes(logits_teacher, target), temperature)


@dataclass(frozen=True)
class DKDConfig(DistillConfig):
    soft_terms = TERMS
    warm_up = 20 / 240
    by_pair: ClassVar = {pair: {"weights.nckd": beta} for pair, beta in BETA.items()}

    name: str = option("dkd", "decoupled distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "tckd": 1.0, "nckd": 8.0},
        "weight of each loss term: alpha is that of tckd, beta that of nckd",
        source="DKD (CVPR 2022), sec. 4.1: alpha = 1; beta by pair, from mdistiller's configurations",
        search={"tckd": Search(0.1, 10.0, log=True), "nckd": Search(0.5, 20.0, log=True)},
    )
    temperature: float = temperature_of(*TERMS, default=4.0, source="DKD (CVPR 2022), sec. 4.1: T = 4")
    standardise: bool = standardise_of(
        *TERMS,
        published="who take temperature 2 or 3 and multiply both weights by 9 to 18, pair by pair: set all three",
    )


@register(
    "dkd",
    DKDConfig,
    summary="soft targets of the label and of the other classes, weighted apart",
    reference=Reference(
        "Decoupled knowledge distillation", "Zhao et al.", "CVPR", 2022, "https://arxiv.org/abs/2203.08679"
    ),
)
class DKD(Method[DKDConfig]):
    """Terms `tckd` and `nckd`: see `tckd_loss` and `nckd_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        logits = compared_logits(self.config, student, teacher)
        losses = {"tckd": tckd_loss, "nckd": nckd_loss}
        return {
            term: loss(*logits, target, self.config.temperature)
            for term, loss in losses.items()
            if self.active(term)
        }
