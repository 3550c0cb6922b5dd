"""SDD: scaled decoupled distillation.

Wei, Luo & Luo, *Scaled decoupled distillation*, CVPR 2024, arXiv:2403.13512 (there *Scale decoupled distillation*).
The logits of an image are the mean of those of its regions and mix what these show. So the last map is averaged
over the m × m cells of every scale m in M as well, the classifier makes logits of each cell (equations 6 and 7),
and the student's cells are to have the teacher's softened class probabilities (equation 8). Cells of which the
teacher's prediction is right where that of the whole image is wrong, or the reverse, are complementary and weigh
β times the others (equation 10). This is the form SD-KD, whose distance is KD's; β = 1 and M = {1} are KD.

As in the authors' code the term is the mean over cells and batch, where equation 9 sums over cells, and there is
no warm-up, which the paper has for that sum's sake (over 30 of 240 epochs: `loss.warm_up=0.125`). Weights and
temperature are those of KD, in the paper too. M is {1, 2} for networks of one family and {1, 2, 4} for others; a
map of fewer cells repeats them. The logits at m = 1 are the network's own, and a term reaches the weights of the
student's classifier as well. That code also clips gradients to a norm of 40; here none are clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Reference
from methods.config import DistillConfig, Search, acts_with, option, require, standardise_of, temperature_of
from methods.features import Features, FeatureSpec
from methods.heads import HeadMethod
from methods.kd import standardise
from methods.maps import pool_to
from methods.registry import register

ONE_FAMILY = (
    "wrn40_2_wrn16_2",
    "wrn40_2_wrn40_1",
    "resnet56_resnet20",
    "resnet110_resnet20",
    "resnet110_resnet32",
    "resnet32x4_resnet8x4",
    "vgg13_vgg8",
)


def cells(final: Tensor, scale: int) -> Tensor:
    """The means over scale × scale cells, row by row: `[B, D, H, H]` to `[B, scale², D]`.

    A map of fewer positions repeats them, as its adaptive pooling would.
    """
    repeats = max(1, scale // final.shape[-1])
    pooled = pool_to(final, scale // repeats)
    if repeats > 1:
        pooled = pooled.repeat_interleave(repeats, dim=2).repeat_interleave(repeats, dim=3)
    return pooled.flatten(2).transpose(1, 2)


def cell_logits(features: Features, weight: Tensor, bias: Tensor, scales: list[int]) -> Tensor:
    """What a classifier makes of the cells of all scales, one behind the other: `[B, N, K]`."""
    assert features.final is not None
    final = features.final
    parts = [
        features.logits[:, None] if scale == 1 else F.linear(cells(final, scale), weight, bias) for scale in scales
    ]
    return torch.cat(parts, dim=1)


def complementary(cells_teacher: Tensor, logits_teacher: Tensor, target: Tensor) -> Tensor:
    """Which cells the teacher has right where it has the whole image wrong, or the reverse.

    Args:
        cells_teacher: `[B, N, K]`.
        logits_teacher: of the whole image, `[B, K]`.
        target: labels `[B]`.

    Returns:
        bool `[B, N]`.
    """
    right = cells_teacher.argmax(dim=2) == target[:, None]
    return right != (logits_teacher.argmax(dim=1) == target)[:, None]


def sdd_loss(cells_student: Tensor, cells_teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T² · KL of the cells' softened class probabilities, weighted.

    Args:
        cells_student, cells_teacher: logits `[B, N, K]`.
        weights: of the cells, `[B, N]`.
        temperature: T > 0.

    Returns:
        scalar, summed over classes, averaged over cells and batch.
    """
    student, teacher = (F.log_softmax(x / temperature, dim=2) for x in (cells_student, cells_teacher))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=2)
    return (weights * divergence).mean() * temperature**2


@dataclass(frozen=True)
class SDDConfig(DistillConfig):
    soft_terms = ("sdd",)
    by_pair: ClassVar = {pair: {"scales": [1, 2]} for pair in ONE_FAMILY}

    name: str = option("sdd", "scaled decoupled distillation")
    weights: dict[str, float] = option(
        {"ce": 0.1, "sdd": 0.9},
        "weight of each loss term",
        source="SDD (CVPR 2024), sec. 4.1: those of KD",
        search={"sdd": Search(0.1, 10.0, log=True)},
    )
    temperature: float = temperature_of("sdd", default=4.0, source="SDD (CVPR 2024), sec. 4.1: that of KD")
    standardise: bool = standardise_of("sdd")
    scales: list[int] = option(
        [1, 2, 4],
        "M, cells along a side; 1 is the whole image",
        source="SDD (CVPR 2024), sec. 4.1: {1, 2, 4}; {1, 2} within a family",
        **acts_with("sdd"),
    )
    beta: float = option(
        2.0,
        "weight of the complementary cells, beside 1 of the others",
        source="SDD (CVPR 2024), sec. 4.1: 2",
        search=Search(1.0, 8.0, log=True),
        least=0,
        **acts_with("sdd"),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> SDDConfig:
        require(bool(self.scales), "scales=[] has no scale: give at least one")
        require(len(set(self.scales)) == len(self.scales), f"scales={self.scales} has a scale twice")
        if "sdd" in self.terms:
            for spec, who in ((student, "student"), (teacher, "teacher")):
                assert spec.final is not None
                for scale in self.scales:
                    _check_scale(scale, spec.final[1], who)
        return super().resolve(student, teacher)


def _check_scale(scale: int, side: int, who: str) -> None:
    fits = scale >= 1 and (side % scale == 0 or scale % side == 0)
    require(fits, f"scales: {scale} must divide {side}, the side of the {who}'s last map, or be a multiple of it")


@register(
    "sdd",
    SDDConfig,
    summary="soft targets of the image and of its regions, more weight where the teacher judges these differently",
    reference=Reference(
        "Scaled decoupled distillation", "Wei, Luo & Luo", "CVPR", 2024, "https://arxiv.org/abs/2403.13512"
    ),
    knowledge="logits",
)
class SDD(HeadMethod[SDDConfig]):
    """Term `sdd`: see `sdd_loss`."""

    needs = frozenset({"logits", "final"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        if not self.active("sdd"):
            return {}
        self.check_prepared()
        config = self.config
        (head,) = self.head_student
        ours = cell_logits(student, head.weight, head.bias, config.scales)
        theirs = cell_logits(teacher, self.weight, self.bias, config.scales)
        weights = 1 + (config.beta - 1) * complementary(theirs, teacher.logits, target).to(ours.dtype)
        if config.standardise:
            ours, theirs = (standardise(x.flatten(0, 1)).view_as(x) for x in (ours, theirs))
        return {"sdd": sdd_loss(ours, theirs, weights, config.temperature)}
