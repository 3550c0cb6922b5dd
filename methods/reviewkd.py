"""ReviewKD: knowledge review.

Chen, Liu, Zhao & Jia, *Distilling knowledge via knowledge review*, CVPR 2021, arXiv:2104.09044. A student's
stage learns not only from the teacher's stage of its own level but also from the levels before it, by a chain
from the deepest level down: attention-based fusion (ABF, figure 3a: `Fusion`) blends what came from the deeper
level, upsampled, into the student's map, by two weights for each position; the result is compared with the
teacher's map and passed on. The distance is the hierarchical context loss (HCL, figure 3b: `hcl_loss`): mean
squared differences of the maps and of their averages over 4 × 4, 2 × 2 and 1 × 1 cells, with weights halving,
over the sum of weights.

As in the authors' code: levels are the stages but for the stem, and the embedding as a map of 1 × 1; the
student's maps are its stages as they are, behind their activation where they have one, and the teacher's those
before it; the fusion has min(512, width of the student's embedding) channels. `WEIGHT` holds their weights by
pair; to take 5, that of most, for the others is this project's choice.

The term warms up over 20 of the 240 epochs: here step by step, from the first on; there epoch by epoch, by
min(1, e / 20) for e counted from 0, so that the first epoch is without it. They train in batches of 128 from a
rate of 0.1 (0.02 for ShuffleNets) with Nesterov's momentum; here the protocol is the suite's. Their teacher is
in training mode, so that its batch norms go by each batch; here, as in mdistiller, it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import Search, StageConfig, acts_with, option
from methods.connectors import conv_bn
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to
from methods.registry import register

GRIDS = (4, 2, 1)  # cells along a side of the pooled maps that HCL compares
WEIGHT = {
    "wrn40_2_wrn16_2": 5.0,
    "wrn40_2_wrn40_1": 5.0,
    "wrn40_2_shufflev1": 5.0,
    "resnet32x4_resnet8x4": 5.0,
    "resnet32x4_shufflev1": 5.0,
    "resnet32x4_shufflev2": 8.0,
    "resnet56_resnet20": 0.6,
    "resnet110_resnet32": 1.0,
}


def hcl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Hierarchical context loss of two maps, `[B, C, H, W]` each: a scalar, averaged over everything."""
    sides = [student.shape[-1], *(grid for grid in GRIDS if grid < student.shape[-1])]
    weights = [0.5**k for k in range(len(sides))]
    losses = [
        weight * F.mse_loss(pool_to(student, side), pool_to(teacher, side))
        for side, weight in zip(sides, weights, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def resize(feature: Tensor, side: int) -> Tensor:
    """`[B, C, side, side]` by the nearest positions; a map of this side as it is."""
    return feature if feature.shape[-1] == side else F.interpolate(feature, size=side, mode="nearest")


class Fusion(nn.Module):
    """ABF of one level: the student's map, with the deeper levels' blended in.

    Args:
        channels: of the student's map.
        width: of what the levels hand on.
        teacher_shape: of the map that it is compared with, `(C, H, W)`.
        deepest: whether there is no level before it.
    """

    def __init__(self, channels: int, width: int, teacher_shape: tuple[int, int, int], deepest: bool) -> None:
        super().__init__()
        self.side = teacher_shape[1]
        self.enter = conv_bn(channels, width)
        self.leave = conv_bn(width, teacher_shape[0], kernel_size=3)
        self.attention = None if deepest else nn.Sequential(nn.Conv2d(2 * width, 2, kernel_size=1), nn.Sigmoid())
        for convolution in (self.enter[0], self.leave[0]):
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, student: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map to compare with the teacher's, and what the next level gets.

        Args:
            student: `[B, C, H, W]`.
            deeper: what the level before handed on, `[B, width, ·, ·]`; None at the deepest.

        Returns:
            `[B, C_t, side, side]` and `[B, width, side, side]`, side the teacher's.
        """
        fused = self.enter(student)
        if self.attention is not None:
            assert deeper is not None
            deeper = resize(deeper, fused.shape[-1])
            own, other = self.attention(torch.cat([fused, deeper], dim=1)).split(1, dim=1)
            fused = fused * own + deeper * other
        fused = resize(fused, self.side)
        return self.leave(fused), fused


@dataclass(frozen=True)
class ReviewKDConfig(StageConfig):
    warm_up = 20 / 240
    by_pair: ClassVar = {pair: {"weights.reviewkd": weight} for pair, weight in WEIGHT.items()}

    name: str = option("reviewkd", "knowledge review")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "reviewkd": 5.0},
        "weight of each loss term",
        source="the authors' script: by pair, 5 for most; for pairs without one 5 is this project's choice",
        search={"reviewkd": Search(0.5, 20.0, log=True)},
    )
    max_width: int = option(
        512,
        "most channels of the fusion",
        source="ReviewKD (CVPR 2021), the authors' code",
        search=Search(choices=(64, 128, 256, 512)),
        least=1,
        **acts_with("reviewkd"),
    )


@register(
    "reviewkd",
    ReviewKDConfig,
    summary="every stage's map, reviewed from the deepest to the first",
    reference=Reference(
        "Distilling knowledge via knowledge review",
        "Chen, Liu, Zhao & Jia",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2104.09044",
    ),
)
class ReviewKD(Method[ReviewKDConfig]):
    """Term `reviewkd`: `hcl_loss` summed over the levels."""

    needs = frozenset({"logits", "embedding", "stages", "preacts"})

    def __init__(self, config: ReviewKDConfig, context: Context) -> None:
        super().__init__(config, context)
        matched = config.matched(context.student, context.teacher) if self.active("reviewkd") else []
        student, teacher = context.student.embedding, context.teacher.embedding
        width = min(config.max_width, student)
        blocks = [Fusion(student, width, (teacher, 1, 1), deepest=True)] if matched else []
        blocks += [Fusion(s[0], width, t, deepest=False) for s, t in reversed(matched)]
        self.blocks = cast("Sequence[Fusion]", nn.ModuleList(blocks))

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("reviewkd"):
            terms["reviewkd"] = self._review(student, teacher)
        return terms

    def _review(self, student: Features, teacher: Features) -> Tensor:
        assert self.config.stages is not None  # resolved
        stages = reversed(self.config.stages)
        levels = [(student.embedding[:, :, None, None], teacher.embedding[:, :, None, None])]
        levels += [(student.stages[s], teacher.preacts[t]) for s, t in stages]
        losses, deeper = [], None
        for block, (ours, theirs) in zip(self.blocks, levels, strict=True):
            compared, deeper = block(ours, deeper)
            losses.append(hcl_loss(compared, theirs))
        return torch.stack(losses).sum()
