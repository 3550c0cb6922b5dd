"""DIST: relations of predictions.

Huang, You, Wang, Qian & Xu, *Knowledge distillation from a stronger teacher*, NeurIPS 2022, arXiv:2205.10536.
Where a strong teacher's probabilities are out of reach, their relations are enough: Pearson's correlation of
student and teacher is to be 1, over the classes of each sample (the term `inter`) and over the batch's samples
of each class (`intra`). As in the authors' code, both carry the factor τ², with probabilities softened by τ.

That code divides by the product of two lengths plus 1e-8, which at τ = 1 spares classes that hardly vary in a
batch. Here every row that varies at all counts in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option, standardise_of, temperature_of
from methods.features import Features
from methods.kd import compared_logits
from methods.registry import register
from methods.relations import centred, cosine_distance

TERMS = ("inter", "intra")


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − Pearson's correlation of each row of `[N, M]` and `[N, M]`, averaged: a scalar in [0, 2].

    A row of equal values correlates with nothing, and gets no gradient.
    """
    return cosine_distance(centred(student), centred(teacher))


@dataclass(frozen=True)
class DISTConfig(DistillConfig):
    soft_terms = TERMS

    name: str = option("dist", "relations of predictions")
    weights: dict[str, float] = option(
        {"ce": 1.0, "inter": 2.0, "intra": 2.0},
        "weight of each loss term: beta is that of inter, gamma that of intra",
        source="the authors' code: 2, with beta = gamma = 1",
        search={"inter": Search(0.2, 20.0, log=True), "intra": Search(0.2, 20.0, log=True)},
    )
    temperature: float = temperature_of(*TERMS, default=4.0, source="the authors' code, DIST-T4: tau = 4")
    standardise: bool = standardise_of(*TERMS)


@register(
    "dist",
    DISTConfig,
    summary="correlations of the predictions, over classes and over samples",
    reference=Reference(
        "Knowledge distillation from a stronger teacher",
        "Huang et al.",
        "NeurIPS",
        2022,
        "https://arxiv.org/abs/2205.10536",
    ),
    knowledge="relations of logits",
)
class DIST(Method[DISTConfig]):
    """Terms `inter` and `intra`: τ² · `pearson_distance` of the probabilities, by sample and by class."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        temperature = self.config.temperature
        logits = compared_logits(self.config, student, teacher)
        ours, theirs = (torch.softmax(x / temperature, dim=1) for x in logits)
        terms = {}
        if self.active("inter"):
            terms["inter"] = temperature**2 * pearson_distance(ours, theirs)
        if self.active("intra"):
            terms["intra"] = temperature**2 * pearson_distance(ours.T, theirs.T)
        return terms
