"""PEFD: projector ensemble feature distillation.

Chen et al., *Improved feature distillation via projector ensemble*, NeurIPS 2022, arXiv:2210.15274. A projector
between the embeddings lets the student learn features of its own beside those that it matches, even where both are
equally wide. Several of them, which differ in nothing but how they begin, generalise better than one: the mean of
their outputs is to point where the teacher's embedding does.

As in the authors' code there are three projectors, linear maps with ReLU behind them, the term is 1 − cosine,
averaged over the batch, and its weight is 25, without soft targets. The maps are one matrix here. An embedding of
zeros, for which that code divides by 0, has the loss 1 and no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import cosine_distance


@dataclass(frozen=True)
class PEFDConfig(DistillConfig):
    name: str = option("pefd", "projector ensemble feature distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "pefd": 25.0},
        "weight of each loss term",
        source="the authors' script for resnet32x4_resnet8x4: 25",
        search={"pefd": Search(2.5, 250.0, log=True)},
    )
    num_projectors: int = option(
        3,
        "how many projectors are averaged",
        source="the authors' code: 3",
        search=Search(choices=(1, 2, 3, 4)),
        least=1,
        **acts_with("pefd"),
    )


@register(
    "pefd",
    PEFDConfig,
    summary="the embedding's direction, through an ensemble of projectors",
    reference=Reference(
        "Improved feature distillation via projector ensemble",
        "Chen et al.",
        "NeurIPS",
        2022,
        "https://arxiv.org/abs/2210.15274",
    ),
)
class PEFD(Method[PEFDConfig]):
    """Term `pefd`: `cosine_distance` of the projectors' mean and the teacher's embedding."""

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config: PEFDConfig, context: Context) -> None:
        super().__init__(config, context)
        if self.active("pefd"):
            widths = config.num_projectors, context.teacher.embedding
            linear = nn.Linear(context.student.embedding, widths[0] * widths[1])
            self.projectors = nn.Sequential(linear, nn.ReLU(), nn.Unflatten(1, widths))

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("pefd"):
            terms["pefd"] = cosine_distance(self.projectors(student.embedding).mean(dim=1), teacher.embedding)
        return terms
