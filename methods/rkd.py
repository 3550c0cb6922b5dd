"""RKD: relational knowledge distillation.

Park, Kim, Lu & Cho, *Relational knowledge distillation*, CVPR 2019, arXiv:1904.05068. The structure of a
batch's embeddings is transferred: the distances of its pairs, each over the batch's mean distance (equations 4
to 6), and the angles of its triplets, as cosines (equations 7 and 8), both by the Huber loss.

Reductions are those of RepDistiller and the authors' code: averages over all B² pairs and B³ triplets, those of
a sample with itself included, which are 0 on both sides. Distances and angles follow from the inner products of
the embeddings, so no tensor of B² D values is made; squared distances are in float64, because the angles at
samples that are near divide what a cancellation leaves of them. At samples that coincide there is no angle and no
gradient, where these codes have one of about 10¹². The two terms have the weights 25 and 50 of these codes; the
authors' classification script has them for embeddings of unit length, beside soft targets. As RepDistiller's, ours
keep their length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import inverse, root, squared_distances


def relative_distances(embedding: Tensor) -> Tensor:
    """Distances of all pairs over their mean, `[B, D]` to `[B, B]`; 0 where all samples coincide."""
    distances = root(squared_distances(embedding))
    num_pairs = distances.numel() - len(distances)
    return (distances * num_pairs * inverse(distances.sum())).to(embedding.dtype)


def angles(embedding: Tensor) -> Tensor:
    """Cosines of the angles at each sample, `[B, D]` to `[B, B, B]`: entry i, j, k is at i, between j and k.

    0, with no gradient, where one of the other two coincides with the sample that the angle is at.
    """
    squared = squared_distances(embedding)
    # By the law of cosines; once the near samples' distances are taken off each other, float32 will do again.
    products = (squared[:, :, None] + squared[:, None, :] - squared[None]).to(embedding.dtype) / 2
    scale = inverse(root(squared)).to(embedding.dtype)
    return products * scale[:, :, None] * scale[:, None, :]


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the relative distances of `[B, D]` and `[B, D']`, averaged over pairs: a scalar."""
    return F.smooth_l1_loss(relative_distances(student), relative_distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the angles of `[B, D]` and `[B, D']`, averaged over triplets: a scalar."""
    return F.smooth_l1_loss(angles(student), angles(teacher))


@dataclass(frozen=True)
class RKDConfig(DistillConfig):
    name: str = option("rkd", "relational distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "distance": 25.0, "angle": 50.0},
        "weight of each loss term",
        source="RKD (CVPR 2019), sec. 4.1: the angle's weight is twice the distance's; RepDistiller: 25 and 50",
        search={"distance": Search(2.5, 250.0, log=True), "angle": Search(5.0, 500.0, log=True)},
    )


@register(
    "rkd",
    RKDConfig,
    summary="distances of pairs and angles of triplets in the batch",
    reference=Reference(
        "Relational knowledge distillation", "Park, Kim, Lu & Cho", "CVPR", 2019, "https://arxiv.org/abs/1904.05068"
    ),
    knowledge="relations",
)
class RKD(Method[RKDConfig]):
    """Terms `distance` and `angle`: see `distance_loss` and `angle_loss`."""

    needs = frozenset({"logits", "embedding"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("distance"):
            terms["distance"] = distance_loss(student.embedding, teacher.embedding)
        if self.active("angle"):
            terms["angle"] = angle_loss(student.embedding, teacher.embedding)
        return terms
