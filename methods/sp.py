"""SP: similarity-preserving knowledge distillation.

Tung & Mori, *Similarity-preserving knowledge distillation*, ICCV 2019, arXiv:1907.09682. Two images that the
teacher's activations find alike should be alike for the student: with Q the flattened maps of a batch, `[B,
C·H·W]`, and G = Q Qᵀ with rows of unit length, the loss is ‖G_teacher − G_student‖² / B² (equations 1 to 4),
summed over the layer pairs. Networks of any widths and resolutions compare without a connector.

As in RepDistiller, whose form the authors verified, the last stage alone is compared unless `stages` says
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import Search, StageConfig, option
from methods.features import Features, FeatureSpec
from methods.kd import kd_term
from methods.registry import register
from methods.relations import gram, unit_vectors


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the row-normalised similarity matrices.

    Args:
        student: `[B, C, H, W]`.
        teacher: `[B, C', H', W']`.

    Returns:
        scalar, averaged over the B² pairs of samples.
    """
    similarity_student, similarity_teacher = (unit_vectors(gram(x)) for x in (student, teacher))
    return F.mse_loss(similarity_student, similarity_teacher)


@dataclass(frozen=True)
class SPConfig(StageConfig):
    name: str = option("sp", "similarity-preserving distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "sp": 3000.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 3000",
        search={"sp": Search(300.0, 30000.0, log=True)},
    )
    stages: list[list[int]] | None = option(
        None, "pairs [student stage, teacher stage], 0 the stem; default: the last stages"
    )

    def default_stages(self, student: FeatureSpec, teacher: FeatureSpec) -> list[list[int]]:
        return super().default_stages(student, teacher)[-1:]


@register(
    "sp",
    SPConfig,
    summary="similarities between the samples of a batch",
    reference=Reference(
        "Similarity-preserving knowledge distillation",
        "Tung & Mori",
        "ICCV",
        2019,
        "https://arxiv.org/abs/1907.09682",
    ),
    knowledge="relations",
)
class SP(Method[SPConfig]):
    """Term `sp`: `sp_loss` summed over the matched stages."""

    needs = frozenset({"logits", "stages"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("sp"):
            losses = [sp_loss(*pair) for pair in self.config.matched(student, teacher)]
            terms["sp"] = torch.stack(losses).sum()
        return terms
