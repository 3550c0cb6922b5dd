"""PKT: probabilistic knowledge transfer.

Passalis & Tefas, *Learning deep representations with probabilistic knowledge transfer*, ECCV 2018,
arXiv:1803.10837. The cosine similarity of two embeddings, moved to [0, 1], is read as the probability that one
sample picks the other as its neighbour (equations 2 and 5); the student's distribution is to diverge little
from the teacher's (equation 6).

As in the authors' code and RepDistiller, a sample's similarity to itself belongs to its distribution, and the
divergence is averaged over the B² pairs where the paper sums it: hence the weight of 30000.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import gram, unit_vectors

EPS = 1e-7


def neighbour_probabilities(embedding: Tensor) -> Tensor:
    """Each sample's distribution over the batch by cosine similarity: `[B, D]` to `[B, B]`, rows summing to 1."""
    similarity = (gram(unit_vectors(embedding)) + 1) / 2
    return similarity / similarity.sum(dim=1, keepdim=True)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the neighbour distributions, averaged over the pairs of samples.

    Args:
        student: `[B, D]`.
        teacher: `[B, D']`.

    Returns:
        scalar.
    """
    probability_student, probability_teacher = neighbour_probabilities(student), neighbour_probabilities(teacher)
    ratio = (probability_teacher + EPS) / (probability_student + EPS)
    return (probability_teacher * torch.log(ratio)).mean()


@dataclass(frozen=True)
class PKTConfig(DistillConfig):
    name: str = option("pkt", "probabilistic knowledge transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "pkt": 30000.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 30000",
        search={"pkt": Search(3000.0, 300000.0, log=True)},
    )


@register(
    "pkt",
    PKTConfig,
    summary="neighbourhoods in the batch, as probabilities",
    reference=Reference(
        "Learning deep representations with probabilistic knowledge transfer",
        "Passalis & Tefas",
        "ECCV",
        2018,
        "https://arxiv.org/abs/1803.10837",
    ),
    knowledge="relations",
)
class PKT(Method[PKTConfig]):
    """Term `pkt`: see `pkt_loss`."""

    needs = frozenset({"logits", "embedding"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("pkt"):
            terms["pkt"] = pkt_loss(student.embedding, teacher.embedding)
        return terms
