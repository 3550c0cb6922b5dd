"""SRRL: softmax regression representation learning.

Yang, Martinez, Bulat & Tzimiropoulos, *Knowledge distillation via softmax regression representation learning*,
ICLR 2021. The student's representation is judged by the teacher's classifier. A connector takes the student's
last map to the teacher's channels. The mean over its positions is to be the teacher's embedding (feature
matching, the term `fm`), and the teacher's frozen classifier is to make the teacher's logits of it (softmax
regression, the term `sr`). The student predicts with a classifier of its own, without the connector.

As in the authors' code the connector is a 1 × 1 convolution, its weights drawn from N(0, 2 / C), C the teacher's
channels, batch norm and ReLU, both terms are means of squared differences, over channels or classes and the batch,
and their weights are 1. That code trains on ImageNet, and none for CIFAR-100 is public; to keep its weights there
is this project's choice. SimKD's authors, who compare with SRRL on CIFAR-100, keep them too, but have the connector
behind the pooling (`connects=embedding`), begun as torch does, and soft targets besides (`weights: {kd: 1}`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Reference
from methods.config import DistillConfig, MethodConfig, Search, acts_with, option
from methods.connectors import conv_bn_by_fan_out
from methods.features import Features
from methods.heads import HeadMethod
from methods.kd import kd_term
from methods.registry import register


class Connects(StrEnum):
    map = "map"
    embedding = "embedding"


@dataclass(frozen=True)
class SRRLConfig(DistillConfig):
    name: str = option("srrl", "softmax regression representation learning")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "fm": 1.0, "sr": 1.0},
        "weight of each loss term: fm matches embeddings, sr what the teacher's classifier makes of them",
        source="the authors' code, for ImageNet; SimKD's script for CIFAR-100, which adds kd = 1",
        search={"fm": Search(0.1, 10.0, log=True), "sr": Search(0.1, 10.0, log=True)},
    )
    connects: Connects = option(
        Connects.map,
        "what the connector takes: map, the last one before its pooling, or embedding, behind it",
        source="the authors' code: map; SimKD's: embedding",
        search=Search(choices=tuple(Connects)),
        **acts_with("fm", "sr"),
    )


@register(
    "srrl",
    SRRLConfig,
    summary="the connected embedding, matched and read by the teacher's classifier",
    reference=Reference(
        "Knowledge distillation via softmax regression representation learning",
        "Yang, Martinez, Bulat & Tzimiropoulos",
        "ICLR",
        2021,
        "https://openreview.net/forum?id=ZzwDy_wiWv",
    ),
)
class SRRL(HeadMethod[SRRLConfig]):
    """Terms `fm` and `sr`: mean squared differences of embeddings, and of what the teacher's classifier gives."""

    needs = frozenset({"logits", "final"})

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[str]:
        assert isinstance(config, SRRLConfig)
        return frozenset({"logits", "embedding"}) if config.connects == Connects.embedding else cls.needs

    def __init__(self, config: SRRLConfig, context: Context) -> None:
        super().__init__(config, context)
        if self.active("fm") or self.active("sr"):
            widths = context.student.embedding, context.teacher.embedding
            self.connector = nn.Sequential(*conv_bn_by_fan_out(*widths), nn.ReLU())

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("fm") or self.active("sr"):
            connected = self.connector(self._shown(student)).mean(dim=(2, 3))
        if self.active("fm"):
            terms["fm"] = F.mse_loss(connected, self._shown(teacher).mean(dim=(2, 3)))
        if self.active("sr"):
            self.check_prepared()
            terms["sr"] = F.mse_loss(F.linear(connected, self.weight, self.bias), teacher.logits)
        return terms

    def _shown(self, features: Features) -> Tensor:
        """What meets the connector, as a map `[B, D, H, W]`."""
        if self.config.connects == Connects.embedding:
            return features.embedding[:, :, None, None]
        assert features.final is not None
        return features.final
