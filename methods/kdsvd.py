"""KDSVD: singular vectors of the maps.

Lee, Kim & Song, *Self-supervised knowledge distillation using singular value decomposition*, ECCV 2018. A
stage's map, as a matrix of positions by channels, is reduced to its leading right singular vectors
(`right_singular_vectors`); what is transferred is how these relate from one stage to the next:
exp(−(v_i − v'_j)² / 8) for all pairs of their entries (`relation`). The student's vectors are first aligned
with the teacher's (`align`): of its leading k + 3, the one that is most collinear stands for each of the
teacher's k, with its sign. Both are multiplied by the teacher's singular value, over the length of its leading
k, so that a vector counts as it does in the map. As in RepDistiller: k = 1, the squared difference summed over
entries and pairs of stages, averaged over the batch.

The authors' code lets the teacher's k choose among the student's k + 1, gives the teacher's vector the sign of the
student's, sums half the squares (times √k) over the batch, and limits each weight's gradient of that sum to the
norm of the task's, growing over the first epochs; no weight of a loss would be equal to that.

Which of a teacher's two singular vectors, v or −v, is taken changes these relations. Here it is the one whose
largest entry is positive; RepDistiller takes what LAPACK gives, whose signs differ from stage to stage and make
the loss up to some times larger.

Vectors over channels need stages of equal width, so the paper's form serves few pairs of networks. mdistiller's
method of this name is another one: the matrix is channels × rows of the map by its columns (`matrix=columns`),
and its vectors, over columns, need maps of equal side only; the larger is pooled here. The weight is
mdistiller's.

The vectors come from powers of the Gram matrix with deflation, a fixed number of matrix products: a
decomposition by LAPACK or cuSOLVER makes the GPU wait, takes seconds for a batch of such matrices, and its
gradient is infinite where singular values meet.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import Search, StageConfig, acts_with, option, require
from methods.features import Features, FeatureSpec
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register

EXHAUSTED = 1e-6  # what is left of a trace of 1 where the rest is rounding
# Squarings of the Gram matrix. After 5, singular values a tenth apart are separated to 0.9^64 = 0.1 %, which is
# enough for the first, far ahead of the others in maps behind ReLUs. The lower ones lie close together.
SQUARINGS, SQUARINGS_OF_MORE = 5, 12
EXTRA = 3  # vectors of the student beyond the teacher's, to choose from


class Matrix(StrEnum):
    channels = "channels"
    columns = "columns"


def leading_eigenvectors(symmetric: Tensor, count: int, squarings: int) -> Tensor:
    """Unit eigenvectors of the largest eigenvalues, their largest entry positive.

    Args:
        symmetric: positive semi-definite, `[B, n, n]`, of trace 1 (or 0).
        count: how many.
        squarings: of the matrix, for each.

    Returns:
        `[B, n, count]`, in descending order; 0 where the matrix is exhausted.
    """
    vectors = []
    for _ in range(count):
        symmetric = symmetric * (_trace(symmetric) > EXHAUSTED)
        vector = _leading(symmetric, squarings)
        vectors.append(vector)
        value = (symmetric @ vector * vector).sum(dim=1, keepdim=True)
        symmetric = symmetric - value * vector @ vector.transpose(1, 2)
    return torch.cat(vectors, dim=2)


def _leading(symmetric: Tensor, squarings: int) -> Tensor:
    """The first eigenvector, `[B, n, 1]`: the columns of a high power all point along it."""
    power = symmetric
    for _ in range(squarings):
        power = power @ power / _nonzero(_trace(power)).square()
    largest = power.diagonal(dim1=1, dim2=2).argmax(dim=1)
    return F.normalize(power[torch.arange(len(power), device=power.device), :, largest], dim=1)[:, :, None]


def _trace(square: Tensor) -> Tensor:
    """`[B, n, n]` to `[B, 1, 1]`."""
    return square.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]


def _nonzero(trace: Tensor) -> Tensor:
    """The trace to divide by: 1 where it is 0."""
    return torch.where(trace > 0, trace, 1.0)


def right_singular_vectors(matrix: Tensor, count: int, squarings: int) -> Tensor:
    """The leading right singular vectors of `[B, N, M]`: `[B, M, count]`, of unit length."""
    _, rows, columns = matrix.shape
    if columns <= rows:
        return leading_eigenvectors(_scaled_gram(matrix.transpose(1, 2)), count, squarings)
    left = leading_eigenvectors(_scaled_gram(matrix), count, squarings)  # the smaller problem with the same answer
    return F.normalize(matrix.transpose(1, 2) @ left, dim=1)


def _scaled_gram(matrix: Tensor) -> Tensor:
    """A Aᵀ of `[B, N, M]`, with trace 1."""
    products = matrix @ matrix.transpose(1, 2)
    return products / _nonzero(_trace(products))


def align(student: Tensor, teacher: Tensor) -> Tensor:
    """For each of the teacher's vectors the most collinear of the student's, with the sign that fits.

    Args:
        student: `[B, M, k']`.
        teacher: `[B, M, k]`.

    Returns:
        `[B, M, k]`.
    """
    cosine = student.transpose(1, 2) @ teacher
    best = cosine.abs().argmax(dim=1, keepdim=True)
    chosen = student.gather(2, best.expand(-1, student.shape[1], -1))
    return chosen * cosine.gather(1, best).sign()


def relation(first: Tensor, second: Tensor) -> Tensor:
    """exp(−(v_i − v'_j)² / 8) of two stages' vectors, `[B, M, k]` and `[B, M', k]`: `[B, M, M', k]`."""
    return torch.exp(-(first[:, :, None] - second[:, None]).square() / 8)


def kdsvd_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Squared difference of the relations of adjacent stages, summed, averaged over the batch: a scalar.

    Args:
        student, teacher: each stage's aligned and weighted vectors, `[B, M_l, k]`.
    """
    losses = [
        (relation(s, s_next) - relation(t, t_next)).square().sum() / len(s)
        for (s, t), (s_next, t_next) in itertools.pairwise(zip(student, teacher, strict=True))
    ]
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class KDSVDConfig(StageConfig):
    name: str = option("kdsvd", "singular vectors of the maps")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "kdsvd": 1.0},
        "weight of each loss term",
        source="mdistiller: 1",
        search={"kdsvd": Search(0.1, 10.0, log=True)},
    )
    matrix: Matrix = option(
        Matrix.channels,
        "what the singular vectors are over: channels (the paper's) or columns of the map (mdistiller's)",
        search=Search(choices=tuple(Matrix)),
        **acts_with("kdsvd"),
    )
    vectors: int = option(
        1,
        "k, singular vectors of each stage",
        source="RepDistiller, mdistiller: 1",
        search=Search(choices=(1, 2, 3)),
        least=1,
        **acts_with("kdsvd"),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> KDSVDConfig:
        resolved = super().resolve(student, teacher)
        matched = resolved.matched(student, teacher)
        if "kdsvd" not in self.terms:
            return resolved
        require(len(matched) >= 2, f"stages={resolved.stages}: kdsvd relates adjacent stages and needs two")
        widths = [(s[0], t[0]) for s, t in matched]
        require(
            self.matrix == Matrix.columns or all(s == t for s, t in widths),
            "singular vectors over channels need matched stages of equal width, and these have "
            + ", ".join(f"{s} and {t}" for s, t in widths)
            + " channels; matrix=columns compares any maps",
        )
        return resolved


@register(
    "kdsvd",
    KDSVDConfig,
    summary="relations between the leading singular vectors of adjacent stages",
    reference=Reference(
        "Self-supervised knowledge distillation using singular value decomposition",
        "Lee, Kim & Song",
        "ECCV",
        2018,
        "https://arxiv.org/abs/1807.06819",
    ),
    knowledge="relations",
)
class KDSVD(Method[KDSVDConfig]):
    """Term `kdsvd`: `kdsvd_loss` over the matched stages."""

    needs = frozenset({"logits", "stages"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("kdsvd"):
            pairs = [self._vectors(*pair) for pair in self.config.matched(student, teacher)]
            terms["kdsvd"] = kdsvd_loss([s for s, _ in pairs], [t for _, t in pairs])
        return terms

    def _vectors(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of one matched stage, aligned and weighted, `[B, M, k]` each."""
        if self.config.matrix == Matrix.columns:
            student, teacher = (x.flatten(1, 2) for x in pool_to_smaller(student, teacher))
        else:
            student, teacher = (x.flatten(2).transpose(1, 2) for x in (student, teacher))
        count = self.config.vectors
        squarings = SQUARINGS if count == 1 else SQUARINGS_OF_MORE
        vectors = right_singular_vectors(teacher, count, squarings)
        values = F.normalize((teacher @ vectors).norm(dim=1, keepdim=True), dim=2)
        candidates = right_singular_vectors(student, count + EXTRA, squarings)
        return align(candidates, vectors) * values, vectors * values
