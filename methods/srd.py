"""SRD: simple recipe distillation.

Miles & Mikolajczyk, *Understanding the role of the projector in knowledge distillation*, AAAI 2024,
arXiv:2303.11098. The embeddings are compared with three ingredients: a linear projector takes the student's to
the teacher's width; batch norm without scale and shift brings both to one scale; and the distance is LogSum,
log Σ |s − t|^α, a soft maximum, in which the largest differences count most (α = 4). Soft targets stand beside
it.

As in the authors' code the sum is over channels and batch, both batch norms take the batch's statistics, with
ε = 1e-4, and the projector trains with the student. Their code for ResNets is for ImageNet, with the weights 1
for soft targets, at temperature 1, and 2 for the distance; none for CIFAR-100 is public, and to keep these there
is this project's choice. The logarithm is of the sum plus 1e-5, so that the loss of equal embeddings is finite:
from their code for transformers, which compares correlations with the teacher's. The projector has no bias, as
batch norm would take it away. The term can be negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, temperature_of
from methods.features import Features
from methods.kd import kd_term
from methods.maps import magnitude
from methods.norms import BatchNorm
from methods.registry import register

EPS = 1e-5  # beside the sum in the logarithm
NORM_EPS = 1e-4  # of the batch norms


def logsum_loss(student: Tensor, teacher: Tensor, exponent: float) -> Tensor:
    """Logarithm of the sum of |student − teacher|^exponent over everything, of two `[B, D]`: a scalar."""
    return torch.log(magnitude(student - teacher, exponent).sum() + EPS)


@dataclass(frozen=True)
class SRDConfig(DistillConfig):
    name: str = option("srd", "simple recipe distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 1.0, "srd": 2.0},
        "weight of each loss term",
        source="the authors' code, on ImageNet: 1 and 2",
        search={"kd": Search(0.1, 10.0, log=True), "srd": Search(0.2, 20.0, log=True)},
    )
    temperature: float = temperature_of("kd", default=1.0, source="the authors' code, on ImageNet: T = 1")
    exponent: float = option(
        4.0,
        "of the differences that are summed: the larger it is, the more the largest count",
        source="SRD (AAAI 2024), the authors' code: alpha = 4",
        search=Search(1.0, 6.0),
        above=0,
        **acts_with("srd"),
    )


@register(
    "srd",
    SRDConfig,
    summary="the embedding through a linear projector and batch norm, by a distance that is a soft maximum",
    reference=Reference(
        "Understanding the role of the projector in knowledge distillation",
        "Miles & Mikolajczyk",
        "AAAI",
        2024,
        "https://arxiv.org/abs/2303.11098",
    ),
)
class SRD(Method[SRDConfig]):
    """Term `srd`: `logsum_loss` of the student's projected embedding and the teacher's, normalised both."""

    needs = frozenset({"logits", "embedding"})
    signed_terms = frozenset({"srd"})

    def __init__(self, config: SRDConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("srd"):
            return
        width = context.teacher.embedding
        self.projector = nn.Linear(context.student.embedding, width, bias=False)
        self.norm_student, self.norm_teacher = (BatchNorm(width, eps=NORM_EPS, affine=False) for _ in range(2))

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("srd"):
            # As maps of one position, which the batch norms take.
            ours = self.norm_student(self.projector(student.embedding)[:, :, None, None])
            theirs = self.norm_teacher(teacher.embedding[:, :, None, None])
            terms["srd"] = logsum_loss(ours, theirs, self.config.exponent)
        return terms
