"""CTKD: curriculum temperature.

Li, Li, Yang, Zhao, Song, Luo, Li & Yang, *Curriculum temperature for knowledge distillation*, AAAI 2023,
arXiv:2211.16231. The temperature of the soft targets is learned against the student: it ascends the loss that
the student descends, by a reversed gradient whose size λ grows by half a cosine from 0 to 1 over the first
epochs, from an easy task to a hard one.

This is the global version, T = 1 + 20 · sigmoid(θ) with one θ that begins at 1 and trains in the student's
optimiser, weight decay included, as in the authors' code. Their λ is that of the epoch counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import MethodConfig, Search, acts_with, option, standardise_of
from methods.features import Features
from methods.kd import compared_logits, kd_loss
from methods.registry import register


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is turned round and scaled: Ganin & Lempitsky, ICML 2015."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.scale = scale
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


@dataclass(frozen=True)
class CTKDConfig(MethodConfig):
    soft_terms = ("ctkd",)

    name: str = option("ctkd", "curriculum temperature")
    weights: dict[str, float] = option(
        {"ce": 0.1, "ctkd": 0.9},
        "weight of each loss term",
        source="the authors' script",
        search={"ctkd": Search(0.1, 10.0, log=True)},
    )
    lowest: float = option(
        1.0, "least temperature", source="the authors' script: t_start = 1", above=0, **acts_with("ctkd")
    )
    span: float = option(
        20.0,
        "greatest temperature above the least",
        source="the authors' script: t_end = 20",
        above=0,
        **acts_with("ctkd"),
    )
    growth: int = option(
        10,
        "epochs over which the reversed gradient grows",
        source="CTKD (AAAI 2023) and its authors' script: 10",
        search=Search(choices=(10, 20, 40, 80)),
        least=1,
        **acts_with("ctkd"),
    )
    standardise: bool = standardise_of("ctkd", published="who take ctkd = 9 for every pair: here it has to be set")


@register(
    "ctkd",
    CTKDConfig,
    summary="soft targets at a temperature that is learned against the student",
    reference=Reference(
        "Curriculum temperature for knowledge distillation",
        "Li et al.",
        "AAAI",
        2023,
        "https://arxiv.org/abs/2211.16231",
    ),
)
class CTKD(Method[CTKDConfig]):
    """Term `ctkd`: `kd_loss` at the learned temperature."""

    needs = frozenset({"logits"})

    def __init__(self, config: CTKDConfig, context: Context) -> None:
        super().__init__(config, context)
        self.reversal = nn.Buffer(torch.zeros(()), persistent=False)  # λ
        if self.active("ctkd"):
            self.theta = nn.Parameter(torch.ones(()))

    def epoch(self, e: int) -> None:
        progress = min(max(e + 1, 0) / self.config.growth, 1.0)
        self.reversal.fill_((1 - math.cos(math.pi * progress)) / 2)

    @property
    def heeds_epochs(self) -> bool:
        return False  # steps read λ where it lies

    @property
    def temperature(self) -> Tensor:
        """T, with the reversed gradient: a scalar."""
        return self.config.lowest + self.config.span * torch.sigmoid(Reverse.apply(self.theta, self.reversal))

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        if not self.active("ctkd"):
            return {}
        return {"ctkd": kd_loss(*compared_logits(self.config, student, teacher), self.temperature)}

    def diagnostics(self, terms: Mapping[str, float]) -> dict[str, float]:
        """The temperature at the epoch's end."""
        return {"ctkd_temperature": self.temperature.item()} if self.active("ctkd") else {}
