"""ITRD: information theoretic representation distillation.

Miles, Lopez-Rodriguez & Mikolajczyk, *Information theoretic representation distillation*, BMVC 2022,
arXiv:2112.00459. Two losses on embeddings, the student's behind a linear layer to the teacher's width. The
correlation loss `corr` wants each channel to vary over the batch as the teacher's does: log₂ Σ_k |c_k − 1|^(2α),
where c_k is the correlation of channel k and α an order of Rényi's entropy. The mutual information loss `mi`
compares samples: with A and B the Gram matrices of the unit embeddings, student's and teacher's, each divided by
its trace, Rényi's entropy of order 2 without its logarithm leaves ‖A‖² − ‖A ∘ B‖², ∘ the elementwise product,
divided by its trace too. Where no embedding is zero all diagonals are 1 and that is, over all pairs of samples,
the mean of s² (1 − t²), s and t their cosines: it parts those that the teacher does not hold collinear.

As in the authors' code standard deviations are the unbiased ones while correlations are averaged over B samples,
so that c_k is at most (B − 1) / B, which keeps the logarithm finite; `mi` takes the student's embedding behind
the layer where the widths differ, and as it is where they agree. The weights are those of the command in their
README (the script's own defaults are 0.05 for `mi` and α = 1.5); which ones their tables took for which pair is
not public. Deviation: a channel that does not vary in a batch is uncorrelated, where that code divides by 0. A
sample whose embedding is zero has the cosine 0 with all, as there, but counts in the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import centred, gram, unit_vectors


def correlations(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation over the batch of each channel, `[B, D]` and `[B, D]` to `[D]`, times (B − 1) / B."""
    student, teacher = (unit_vectors(centred(x, dim=0), dim=0) for x in (student, teacher))
    num_samples = len(student)
    return (student * teacher).sum(dim=0) * ((num_samples - 1) / num_samples)


def correlation_loss(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log₂ of the sum over channels of |correlation − 1|^(2α), of two `[B, D]`: a scalar of any sign."""
    distances = 1 - correlations(student, teacher)  # at least 1 / B, whose powers a sum could lose
    return (2 * alpha * distances.log()).logsumexp(dim=0) / math.log(2)


def information_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all pairs of samples of s² (1 − t²), s and t their cosines in `[B, D]` and `[B, D']`: a scalar."""
    student, teacher = (gram(unit_vectors(x)).square() for x in (student, teacher))
    return (student * (1 - teacher)).mean()


@dataclass(frozen=True)
class ITRDConfig(DistillConfig):
    name: str = option("itrd", "information theoretic representation distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "corr": 2.0, "mi": 1.0},
        "weight of each loss term: corr that of the correlation, mi that of the mutual information",
        source="the authors' README, its command for wrn40_2_wrn16_2: 2 and 1",
        search={"corr": Search(0.2, 20.0, log=True), "mi": Search(0.01, 10.0, log=True)},
    )
    alpha: float = option(
        1.01,
        "order of Rényi's entropy in corr: the larger it is, the more the least correlated channels count",
        source="the authors' README, its command for wrn40_2_wrn16_2: 1.01",
        search=Search(0.5, 3.0),
        above=0,
        **acts_with("corr"),
    )


@register(
    "itrd",
    ITRDConfig,
    summary="correlations of the embedding's channels, and cosines between the samples of a batch",
    reference=Reference(
        "Information theoretic representation distillation",
        "Miles, Lopez-Rodriguez & Mikolajczyk",
        "BMVC",
        2022,
        "https://arxiv.org/abs/2112.00459",
    ),
    knowledge="features, relations",
)
class ITRD(Method[ITRDConfig]):
    """Terms `corr` and `mi`: see `correlation_loss` and `information_loss`."""

    needs = frozenset({"logits", "embedding"})
    signed_terms = frozenset({"corr"})

    def __init__(self, config: ITRDConfig, context: Context) -> None:
        super().__init__(config, context)
        ours, theirs = context.student.embedding, context.teacher.embedding
        self.widths_differ = ours != theirs
        if self.active("corr") or (self.active("mi") and self.widths_differ):
            self.embed = nn.Linear(ours, theirs)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        ours, theirs = student.embedding, teacher.embedding
        if self.active("corr"):
            terms["corr"] = correlation_loss(self.embed(ours), theirs, self.config.alpha)
        if self.active("mi"):
            terms["mi"] = information_loss(self.embed(ours) if self.widths_differ else ours, theirs)
        return terms
