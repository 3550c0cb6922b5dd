"""AB: activation boundaries.

Heo, Lee, Yun & Choi, *Knowledge transfer via distillation of activation boundaries formed by hidden neurons*,
AAAI 2019, arXiv:1811.03233. In a stage of its own the student learns which of the teacher's neurons are active:
its pre-activations, through a connector, are to lie on the teacher's side of 0 by a margin μ = 1 (the paper's
loss in the place of the indicator, which has no gradient). Then it is trained on the task alone.

Stages count 2^(k−n+1), the last of n stages 1, and the sum is scaled by 3/1000, as the authors and RepDistiller
do; it is averaged over the batch. The connector is RepDistiller's: none where the shapes agree, else a
convolution and batch norm. Wide ResNet's pre-activations are those behind its batch norm, as RepDistiller takes
them for this method.

RepDistiller's stage trains the connector and the student's modules up to its last map; what lies behind stays
in evaluation mode. Here the whole student is in training mode, so that batch norms behind that map (Wide
ResNets, MobileNetV2 and ShuffleNetV2 have one) go by the batch and update their statistics. Wide ResNet's is
also trained here, since its last pre-activations pass it.

The authors' script for CIFAR-10 has the teacher's batch norms, too, go by the batch while the boundaries are
learned, and trains afterwards on the teacher's soft targets alone (T = 3). Here, as in RepDistiller, the teacher
is in evaluation mode and the task is that of the labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Pretraining, Reference
from methods.config import MethodConfig, PreactConfig, PretrainedConfig, Search, option
from methods.connectors import regressor_layer
from methods.features import Features, FeatureSpec, MapShape
from methods.kd import kd_term
from methods.norms import BatchNorm
from methods.registry import register

SCALE = 3 / 1000


def ab_loss(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Squares of what the student's neurons lack to `margin` on the teacher's side of 0.

    Args:
        student, teacher: pre-activations `[B, C, H, W]`.
        margin: μ.

    Returns:
        scalar, summed over neurons, averaged over the batch.
    """
    side = torch.where(teacher > 0, 1.0, -1.0)
    return F.relu(margin - side * student).square().sum() / student.shape[0]


def connector(student: MapShape, teacher: MapShape) -> nn.Module:
    """From a student's map to the teacher's shape."""
    if student == teacher:
        return nn.Identity()
    return nn.Sequential(regressor_layer(student, teacher), BatchNorm(teacher[0]))


@dataclass(frozen=True)
class ABConfig(PreactConfig, PretrainedConfig):
    name: str = option("ab", "activation boundaries")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0},
        "weight of each loss term of the main training; the stage before it has one loss, which has no weight",
        source="RepDistiller's script, whose beta acts in neither stage",
    )
    margin: float = option(
        1.0,
        "how far from 0 a neuron is to be on its side",
        source="RepDistiller: 1",
        search=Search(0.1, 3.0, log=True),
        above=0,
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> ABConfig:
        resolved = super().resolve(student, teacher)
        with torch.device("meta"):  # only to learn whether there are connectors
            for shapes in resolved.matched(student, teacher):
                connector(*shapes)
        return resolved


@register(
    "ab",
    ABConfig,
    summary="which neurons are active, learned in a stage before the main training",
    reference=Reference(
        "Knowledge transfer via distillation of activation boundaries formed by hidden neurons",
        "Heo et al.",
        "AAAI",
        2019,
        "https://arxiv.org/abs/1811.03233",
    ),
    knowledge="features",
)
class AB(Method[ABConfig]):
    """Before the main training the loss `ab`: `ab_loss` of the matched stages."""

    needs = frozenset({"logits"})

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[str]:
        return cls.needs if "kd" in config.terms else frozenset()

    def __init__(self, config: ABConfig, context: Context) -> None:
        super().__init__(config, context)
        self.pretraining = Pretraining(config.pretraining, ("ab",), frozenset({"preacts"}))
        shapes = config.matched(context.student, context.teacher)
        self.connectors = nn.ModuleList([connector(*pair) for pair in shapes])

    def pretrain(
        self, student: Features | None, teacher: Features, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        assert student is not None
        pairs = self.config.matched(student, teacher)
        num_stages = len(pairs)
        losses = [
            2.0 ** (k - num_stages + 1) * ab_loss(connect(ours), theirs, self.config.margin)
            for k, (connect, (ours, theirs)) in enumerate(zip(self.connectors, pairs, strict=True))
        ]
        return {"ab": SCALE * torch.stack(losses).sum()}

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return kd_term(self, student, teacher)
