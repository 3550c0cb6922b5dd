"""CAT-KD: class attention transfer.

Guo, Yan, Li & Lin, *Class attention transfer based knowledge distillation*, CVPR 2023, arXiv:2304.12777. A
class activation map says where a network sees evidence for a class: with W the weights of its head and F the
map whose mean over positions is its embedding, CAM_k = Σ_c W_kc F_c, so that the mean of CAM_k is the logit of
k without its bias. Those of all classes are pooled to few cells (the paper: 2 × 2), brought to unit length
each, and the student's are to equal the teacher's, by the mean squared difference.

The authors give their networks a 1 × 1 convolution in place of the head to read these maps off, without bias and
in all students but ShuffleNets with larger weights at the start; here they come from the head as it is, whose
weights get the term's gradient too. `BY_PAIR` holds the settings of their configurations: for networks of one
family they leave the normalisation out, with weights accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from methods.base import Reference
from methods.config import DistillConfig, Search, acts_with, check_classes, option, require
from methods.features import Features, FeatureSpec
from methods.heads import HeadMethod
from methods.kd import kd_term
from methods.maps import pool_to
from methods.registry import register
from methods.relations import unit_vectors

# pair: weight, resolution, normalise
BY_PAIR = {
    "resnet56_resnet20": (0.7, 2, False),
    "resnet110_resnet32": (1.8, 2, False),
    "wrn40_2_wrn40_1": (1.5, 2, False),
    "vgg13_vgg8": (4.5, 2, False),
    "wrn40_2_wrn16_2": (12.0, 2, False),
    "resnet32x4_resnet8x4": (15.0, 2, False),
    "vgg13_mobilenetv2": (15.0, 2, True),
    "resnet50_mobilenetv2": (40.0, 2, True),
    "wrn40_2_shufflev1": (80.0, 4, True),
    "resnet32x4_shufflev1": (600.0, 4, True),
    "resnet32x4_shufflev2": (600.0, 4, True),
}


def class_activations(final: Tensor, weight: Tensor, resolution: int) -> Tensor:
    """Class activation maps, pooled.

    Args:
        final: `[B, D, H, W]`.
        weight: of the head, `[K, D]`.
        resolution: cells along a side.

    Returns:
        `[B, K, resolution, resolution]`.
    """
    # Pooled first: both are linear, and there are fewer positions afterwards.
    return F.conv2d(pool_to(final, resolution), weight[:, :, None, None])


def catkd_loss(student: Tensor, teacher: Tensor, normalise: bool) -> Tensor:
    """Mean squared difference of class activation maps, `[B, K, h, w]` each: a scalar.

    Args:
        normalise: bring each class's map to unit length first.
    """
    if normalise:
        student, teacher = (unit_vectors(x.flatten(2), dim=2) for x in (student, teacher))
    return F.mse_loss(student, teacher)


@dataclass(frozen=True)
class CATKDConfig(DistillConfig):
    by_pair: ClassVar = {
        pair: {"weights.catkd": weight, "resolution": resolution, "normalise": normalise}
        for pair, (weight, resolution, normalise) in BY_PAIR.items()
    }

    name: str = option("catkd", "class attention transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "catkd": 40.0},
        "weight of each loss term",
        source="the authors' configurations: by pair; 40 is that of resnet50_mobilenetv2",
        search={"catkd": Search(0.1, 1000.0, log=True)},
    )
    resolution: int = option(
        2,
        "cells along a side of the pooled maps",
        source="CAT-KD (CVPR 2023): 2; 4 for ShuffleNets in the authors' configurations",
        search=Search(choices=(1, 2, 4)),
        **acts_with("catkd"),
    )
    normalise: bool = option(
        True,
        "bring each class's map to unit length, so that only where it is active counts",
        source="CAT-KD (CVPR 2023); not within a family in the authors' configurations",
        search=Search(choices=(True, False)),
        **acts_with("catkd"),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> CATKDConfig:
        if "catkd" in self.terms:
            assert student.final is not None
            assert teacher.final is not None
            side = min(student.final[1], teacher.final[1])
            require(
                1 <= self.resolution <= side,
                f"resolution={self.resolution} must be from 1 to {side}, the smaller side of the final maps",
            )
            require(
                not (self.normalise and self.resolution == 1),
                "resolution=1 with normalise=true leaves nothing to compare: a cell alone becomes 1 or -1",
            )
            check_classes(student, teacher)
        return super().resolve(student, teacher)


@register(
    "catkd",
    CATKDConfig,
    summary="class activation maps: where the evidence for each class is",
    reference=Reference(
        "Class attention transfer based knowledge distillation",
        "Guo, Yan, Li & Lin",
        "CVPR",
        2023,
        "https://arxiv.org/abs/2304.12777",
    ),
    knowledge="attention",
)
class CATKD(HeadMethod[CATKDConfig]):
    """Term `catkd`: `catkd_loss` of the final maps' class activations."""

    needs = frozenset({"logits", "final"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("catkd"):
            self.check_prepared()
            assert student.final is not None
            assert teacher.final is not None
            (head,) = self.head_student
            resolution = self.config.resolution
            ours = class_activations(student.final, head.weight, resolution)
            theirs = class_activations(teacher.final, self.weight, resolution)
            terms["catkd"] = catkd_loss(ours, theirs, self.config.normalise)
        return terms
