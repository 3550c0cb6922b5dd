"""MGD: masked generative distillation.

Yang et al., *Masked generative distillation*, ECCV 2022, arXiv:2205.01529. The student does not imitate the
teacher's map; with a part of its own masked at random it must still be able to generate it, through two 3 × 3
convolutions with a ReLU between them.

As in the authors' code for classification the maps are those that are pooled to the embedding, whole channels of a
sample are masked, each with probability 0.15, what is left is not scaled up, a 1 × 1 convolution goes before where
the networks differ in channels, and the term is the squared difference, summed over a map and averaged over the
batch. Its weight of 7e-5 is for ImageNet's 512 × 7 × 7 values; that code has none for CIFAR-100. One deviation:
where maps differ in their sides, which the code refuses, the larger is averaged over blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register


def channel_mask(maps: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """1 for the channels of a sample that are kept, 0 for those that are masked.

    Args:
        maps: `[B, C, H, W]`.
        ratio: probability that a channel is masked.
        generator: of the maps' device.

    Returns:
        `[B, C, 1, 1]`.
    """
    drawn = torch.rand(*maps.shape[:2], 1, 1, generator=generator, device=maps.device)
    return (drawn >= ratio).to(maps.dtype)


@dataclass(frozen=True)
class MGDConfig(DistillConfig):
    name: str = option("mgd", "masked generative distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "mgd": 7e-5},
        "weight of each loss term",
        source="the authors' configuration for ImageNet: alpha = 0.00007",
        search={"mgd": Search(7e-6, 7e-4, log=True)},
    )
    ratio: float = option(
        0.15,
        "probability that a channel of the student's map is masked",
        source="the authors' configuration for ImageNet: lambda = 0.15",
        search=Search(0.0, 0.6),
        least=0,
        below=1,
        **acts_with("mgd"),
    )


@register(
    "mgd",
    MGDConfig,
    summary="the teacher's last map, generated from the student's with channels masked at random",
    reference=Reference(
        "Masked generative distillation", "Yang et al.", "ECCV", 2022, "https://arxiv.org/abs/2205.01529"
    ),
)
class MGD(Method[MGDConfig]):
    """Term `mgd`: squared difference of the generated map and the teacher's, summed over a map."""

    needs = frozenset({"logits", "final"})

    def __init__(self, config: MGDConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("mgd"):
            return
        channels, width = context.student.embedding, context.teacher.embedding
        self.align = nn.Identity() if channels == width else nn.Conv2d(channels, width, kernel_size=1)
        self.generation = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
        )

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("mgd"):
            assert student.final is not None
            assert teacher.final is not None
            own, hint = pool_to_smaller(student.final, teacher.final)
            aligned = self.align(own)
            generated = self.generation(aligned * channel_mask(aligned, self.config.ratio, self.generator))
            terms["mgd"] = F.mse_loss(generated, hint, reduction="sum") / len(hint)
        return terms
