"""MSE: logit matching.

The student's logits are to be the teacher's: Ba & Caruana, *Do deep nets really need to be deep?*, NIPS 2014,
arXiv:1312.6184, who train on nothing else. Kim, Oh, Kim, Cho & Yun, *Comparing Kullback–Leibler divergence and mean
squared error loss in knowledge distillation*, IJCAI 2021, arXiv:2105.08919, find it ahead of soft targets, whose
loss, but for the logits' means, tends to half of it as the temperature grows.

As in the latter's code the term is the mean over classes and batch, and there is no cross entropy beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import MethodConfig, Search, option
from methods.features import Features
from methods.registry import register


@dataclass(frozen=True)
class MSEConfig(MethodConfig):
    soft_terms = ("mse",)

    name: str = option("mse", "logit matching")
    weights: dict[str, float] = option(
        {"ce": 0.0, "mse": 1.0},
        "weight of each loss term",
        source="the code of Kim et al. (IJCAI 2021): the term alone",
        search={"mse": Search(0.1, 10.0, log=True)},
    )


@register(
    "mse",
    MSEConfig,
    summary="the logits themselves, by mean squared error",
    reference=Reference(
        "Comparing Kullback–Leibler divergence and mean squared error loss in knowledge distillation",
        "Kim, Oh, Kim, Cho & Yun",
        "IJCAI",
        2021,
        "https://arxiv.org/abs/2105.08919",
    ),
)
class MSE(Method[MSEConfig]):
    """Term `mse`: mean squared difference of the logits."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(student.logits, teacher.logits)} if self.active("mse") else {}
