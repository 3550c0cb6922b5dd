"""SemCKD: cross-layer distillation with semantic calibration.

Chen et al., *Cross-layer distillation with semantic calibration*, AAAI 2021, arXiv:2012.03236. Every stage of
the student learns from every stage of the teacher, sample by sample to the degree α that an attention gives:
queries and keys come from each sample's similarities to the batch (row of the Gram matrix of the maps), through
an MLP of its stage, of unit length (`Similarities`); α is the softmax over the teacher's stages of their products.
The loss is Σ α · MSE(projection of the student's map, the teacher's map), averaged over the student's stages and
the batch (`calibrated_loss`).

As in the authors' code: the larger map is pooled to the smaller; a projection is a 1 × 1, a 3 × 3 and a 1 × 1
convolution with batch norm and ReLU between, of twice the teacher's channels; KD has weight 1 beside it.
Deviations: a row of similarities is as long as the batch, so a shorter last batch, which that code leaves out of
the training, is filled up with zeros; a projection has at most `max_width` channels, since that of ResNet50's
deepest stage would take 160 million parameters for each of the student's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, require
from methods.connectors import bottleneck
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register
from methods.relations import gram


def calibrated_loss(distances: Tensor, attention: Tensor) -> Tensor:
    """The distances of all pairs of stages, weighted by sample: `[B, S, T]` and `[B, S, T]` to a scalar."""
    return (attention * distances).sum(dim=2).mean()


class Similarities(nn.Module):
    """A stage's similarities within the batch, embedded: `[B, C, H, W]` to unit vectors `[B, dim]`.

    Args:
        batch_size: longest batch.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        dim = max(1, batch_size // 4)
        self.batch_size = batch_size
        self.embed = nn.Sequential(nn.Linear(batch_size, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, stage: Tensor) -> Tensor:
        similarities = gram(stage)
        missing = self.batch_size - len(similarities)
        require(
            missing >= 0,
            f"batch_size={self.batch_size} is less than the batch of {len(similarities)}",
        )
        return F.normalize(self.embed(F.pad(similarities, (0, missing))), dim=1)


def projection(channels: int, target_channels: int, max_width: int) -> nn.Sequential:
    """From a student's map to a teacher's channels, the side kept."""
    width = min(2 * target_channels, max_width)
    last = nn.Conv2d(width, target_channels, kernel_size=1, bias=False)
    return nn.Sequential(*bottleneck(channels, width), last)


@dataclass(frozen=True)
class SemCKDConfig(DistillConfig):
    name: str = option("semckd", "semantic calibration across layers")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 1.0, "semckd": 400.0},
        "weight of each loss term",
        source="the authors' script: beta = 400, alpha = 1",
        search={"semckd": Search(40.0, 4000.0, log=True)},
    )
    batch_size: int = option(
        64,
        "longest batch: a sample's similarities to it are what the attention reads",
        source="the common protocol",
        least=1,
        **acts_with("semckd"),
    )
    max_width: int = option(
        1024,
        "most channels of a projection",
        source="this project: twice vgg13's 512",
        least=1,
        **acts_with("semckd"),
    )


@register(
    "semckd",
    SemCKDConfig,
    summary="every stage of the teacher, to each stage of the student as attention decides",
    reference=Reference(
        "Cross-layer distillation with semantic calibration",
        "Chen et al.",
        "AAAI",
        2021,
        "https://arxiv.org/abs/2012.03236",
    ),
)
class SemCKD(Method[SemCKDConfig]):
    """Term `semckd`: `calibrated_loss` over all pairs of stages but the stems."""

    needs = frozenset({"logits", "stages"})

    def __init__(self, config: SemCKDConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("semckd"):
            return
        ours, theirs = context.student.stages[1:], context.teacher.stages[1:]
        self.stages_read = range(1, 1 + len(ours)), range(1, 1 + len(theirs))
        self.queries = nn.ModuleList(Similarities(config.batch_size) for _ in ours)
        self.keys = nn.ModuleList(Similarities(config.batch_size) for _ in theirs)
        self.projections = nn.ModuleList(
            nn.ModuleList(projection(s[0], t[0], config.max_width) for t in theirs) for s in ours
        )

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("semckd"):
            ours, theirs = student.stages[1:], teacher.stages[1:]
            terms["semckd"] = calibrated_loss(self._distances(ours, theirs), self._attention(ours, theirs))
        return terms

    def _attention(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
        """α: how much each student stage learns from each teacher stage, `[B, S, T]`, summing to 1 over T."""
        queries = torch.stack([embed(stage) for embed, stage in zip(self.queries, student, strict=True)], dim=1)
        keys = torch.stack([embed(stage) for embed, stage in zip(self.keys, teacher, strict=True)], dim=1)
        return F.softmax(queries @ keys.transpose(1, 2), dim=2)

    def _distances(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
        """Mean squared differences of each sample's projected maps, `[B, S, T]`."""
        rows = []
        for own, projections in zip(student, self.projections, strict=True):
            assert isinstance(projections, nn.ModuleList)
            row = []
            for hint, project in zip(teacher, projections, strict=True):
                pooled, pooled_hint = pool_to_smaller(own, hint)
                row.append((project(pooled) - pooled_hint).square().mean(dim=(1, 2, 3)))
            rows.append(torch.stack(row, dim=1))
        return torch.stack(rows, dim=1)
