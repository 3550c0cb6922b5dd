"""SimKD: the reused teacher classifier.

Chen, Mei, Zhang, Wang, Feng & Chen, *Knowledge distillation with the reused teacher classifier*, CVPR 2022,
arXiv:2203.14001. The student has no classifier of its own to learn: a projector takes its last map to the
teacher's feature space, where it imitates the map that the teacher's classifier reads, and that classifier,
frozen and after the same pooling, predicts. Projector and classifier stay in the trained student; its
parameters count.

The projector is the paper's bottleneck of a 1×1, a 3×3 and a 1×1 convolution, each with batch norm and ReLU,
with half of the teacher's channels between. Where sides differ the larger map is pooled.

Deviation: where a network widens its last stage by a 1 × 1 convolution before the pooling (MobileNetV2,
ShuffleNetV2), the authors' projector reads the student's map before that, and the convolution is dropped; here it
reads the map behind it, which stays.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Reference
from methods.config import DistillConfig, Search, check_classes, option, require
from methods.connectors import bottleneck, conv_bn
from methods.features import Features, FeatureSpec
from methods.heads import HeadMethod
from methods.kd import kd_term
from methods.maps import pool_to
from methods.registry import register


@dataclass(frozen=True)
class SimKDConfig(DistillConfig):
    name: str = option("simkd", "the reused teacher classifier")
    weights: dict[str, float] = option(
        {"ce": 0.0, "kd": 0.0, "simkd": 1.0},
        "weight of each loss term; ce and kd are of the logits that the reused classifier gives",
        source="SimKD (CVPR 2022): the feature loss alone",
        search={"simkd": Search(0.3, 10.0, log=True)},
    )
    factor: int = option(
        2,
        "the teacher's channels over those within the projector",
        source="SimKD (CVPR 2022): r = 2",
        search=Search(choices=(1, 2, 4, 8)),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> SimKDConfig:
        width = teacher.embedding
        require(1 <= self.factor <= width, f"factor={self.factor} must be from 1 to the teacher's {width} channels")
        check_classes(student, teacher)
        return super().resolve(student, teacher)


@register(
    "simkd",
    SimKDConfig,
    summary="the teacher's classifier on the student's projected last stage, in training and prediction",
    reference=Reference(
        "Knowledge distillation with the reused teacher classifier",
        "Chen et al.",
        "CVPR",
        2022,
        "https://arxiv.org/abs/2203.14001",
    ),
)
class SimKD(HeadMethod[SimKDConfig]):
    """Term `simkd`: mean squared difference of the projected student's map and the teacher's."""

    needs = frozenset({"logits", "final"})

    def __init__(self, config: SimKDConfig, context: Context) -> None:
        super().__init__(config, context)
        assert context.student.final is not None
        assert context.teacher.final is not None
        channels, side, _ = context.student.final
        teacher_channels, teacher_side, _ = context.teacher.final
        self.side = min(side, teacher_side)
        width = teacher_channels // config.factor
        last = conv_bn(width, teacher_channels)
        self.projector = nn.Sequential(*bottleneck(channels, width), last, nn.ReLU())
        self.asked = False  # whether `predict` was

    def predict(self, student: Features) -> Features:
        """The student's features with the projected map in the place of its last, and what follows from it."""
        self.asked = True
        assert student.final is not None
        final = self.projector(pool_to(student.final, self.side))
        embedding = final.mean(dim=(2, 3))
        logits = F.linear(embedding, self.weight, self.bias)
        return dataclasses.replace(student, final=final, embedding=embedding, logits=logits)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        self.check_prepared()
        require(
            self.asked,
            "method simkd takes part in prediction: give it method.predict(features) in the place of the student's "
            "features, and the cross entropy their logits",
        )
        terms = kd_term(self, student, teacher)
        if self.active("simkd"):
            assert student.final is not None
            assert teacher.final is not None
            terms["simkd"] = F.mse_loss(student.final, pool_to(teacher.final, self.side))
        return terms
