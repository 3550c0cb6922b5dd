"""CC: correlation congruence.

Peng et al., *Correlation congruence for knowledge distillation*, ICCV 2019, arXiv:1904.01802. The correlation
of every pair of embeddings in a batch is to be the same for student and teacher: the loss is ‖ψ(E_student) −
ψ(E_teacher)‖² / B², where ψ is the Gaussian kernel of the unit embeddings, exp(−γ‖x − y‖²) = exp(−2γ) exp(2γ
x·y), its second factor by its Taylor series to order P (section 3.3). Any two widths compare, without a
connector.

That term is a part of the paper's CCKD, which also has soft targets of each instance (here `weights.kd`, 0
unless set) and batches from samplers of its own, balanced by class or by superclass; here it is beside cross
entropy, on the suite's shuffled batches. The weight 100 is from an example script of AberHu's, for CIFAR-10.

RepDistiller's method of this name is another one (`form=adjacent`): both embeddings, each behind a *trained*
linear layer of 128, and the mean, over the batch's neighbours in the order of its samples, of the inner product
of their absolute differences. Layers that map everything to 0 bring it to 0. Its weight is 0.02, as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import gram, unit_vectors

DIM = 128  # of the linear layers of form=adjacent


class Form(StrEnum):
    kernel = "kernel"
    adjacent = "adjacent"


def correlations(embedding: Tensor, gamma: float, order: int) -> Tensor:
    """Taylor series of the Gaussian kernel of unit embeddings: `[B, D]` to `[B, B]`."""
    cosine = gram(unit_vectors(embedding))
    term = total = torch.full_like(cosine, math.exp(-2 * gamma))
    for p in range(1, order + 1):
        term = term * cosine * (2 * gamma / p)
        total = total + term
    return total


def kernel_loss(student: Tensor, teacher: Tensor, gamma: float, order: int) -> Tensor:
    """Mean squared difference of the correlations of `[B, D]` and `[B, D']`: a scalar."""
    return F.mse_loss(correlations(student, gamma, order), correlations(teacher, gamma, order))


def adjacent_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over neighbours in the batch of |s − t| · |s' − t'|, of `[B, D]` each: a scalar, 0 for one sample."""
    difference = (student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum() / max(1, len(difference) - 1)


def _by_kernel(config: CCConfig) -> bool:
    return config.form == Form.kernel


@dataclass(frozen=True)
class CCConfig(DistillConfig):
    by_pair_with: ClassVar = {("form", Form.adjacent): {"": {"weights.cc": 0.02}}}

    name: str = option("cc", "correlation congruence")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "cc": 100.0},
        "weight of each loss term",
        source="AberHu's Knowledge-Distillation-Zoo, its example for CIFAR-10: lambda_kd = 100; "
        "form=adjacent, RepDistiller: beta = 0.02",
        search={"cc": Search(0.01, 1000.0, log=True)},
    )
    form: Form = option(
        Form.kernel,
        "kernel (the paper's) or adjacent (RepDistiller's, whose weights differ by orders)",
        **acts_with("cc"),
    )
    gamma: float = option(
        0.4,
        "of the Gaussian kernel",
        source="CC (ICCV 2019), sec. 4: 0.4",
        search=Search(0.1, 2.0, log=True),
        above=0,
        **acts_with("cc", also=_by_kernel, when="form=kernel"),
    )
    order: int = option(
        2,
        "P, where the kernel's series ends",
        source="CC (ICCV 2019), sec. 4: 2",
        search=Search(choices=(1, 2, 3)),
        least=1,
        **acts_with("cc", also=_by_kernel, when="form=kernel"),
    )


@register(
    "cc",
    CCConfig,
    summary="correlations between the samples of a batch",
    reference=Reference(
        "Correlation congruence for knowledge distillation",
        "Peng et al.",
        "ICCV",
        2019,
        "https://arxiv.org/abs/1904.01802",
    ),
    knowledge="relations",
)
class CC(Method[CCConfig]):
    """Term `cc`: `kernel_loss` or `adjacent_loss`."""

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config: CCConfig, context: Context) -> None:
        super().__init__(config, context)
        if self.active("cc") and config.form == Form.adjacent:
            self.embed_student = nn.Linear(context.student.embedding, DIM)
            self.embed_teacher = nn.Linear(context.teacher.embedding, DIM)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("cc"):
            terms["cc"] = self._cc(student.embedding, teacher.embedding)
        return terms

    def _cc(self, student: Tensor, teacher: Tensor) -> Tensor:
        config = self.config
        if config.form == Form.kernel:
            return kernel_loss(student, teacher, config.gamma, config.order)
        return adjacent_loss(self.embed_student(student), self.embed_teacher(teacher))
