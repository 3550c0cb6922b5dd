"""FSP: flow of the solution procedure.

Yim, Joo, Bae & Kim, *A gift from knowledge distillation: fast optimization, network minimization and transfer
learning*, CVPR 2017. How a network solves its task is described by the inner products of the channels of one of
its maps with those of the next (equation 1, the FSP matrix). In a stage of its own the student learns the
teacher's matrices (equation 2, with all λ equal); then it is trained on the task alone.

As in RepDistiller, squared differences are averaged over the matrix, all neighbouring maps from the stem on are
taken, and the larger of two is pooled by averages (the paper: by maxima). Only networks whose stages have
equally many channels can be compared, since the method has no connector.

RepDistiller's stage trains the student's modules up to its last map; what lies behind stays in evaluation mode.
Here the whole student is in training mode, so that Wide ResNet's last batch norm updates its statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Context, Method, Pretraining, Reference
from methods.config import MethodConfig, PretrainedConfig, StageConfig, match_stages, option, require
from methods.features import Features, FeatureSpec
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register
from methods.relations import channel_products


def fsp_matrix(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of two maps' channels, averaged over positions of the smaller map.

    Args:
        first: `[B, C, H, W]`.
        second: `[B, C', H', W']`.

    Returns:
        `[B, C, C']`.
    """
    first, second = pool_to_smaller(first, second)
    return channel_products(first, second) / first[0, 0].numel()


def fsp_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared differences of the FSP matrices of neighbouring maps, summed over neighbours: a scalar."""
    flows = ((fsp_matrix(*pair) for pair in itertools.pairwise(maps)) for maps in (student, teacher))
    return torch.stack([(ours - theirs).square().mean() for ours, theirs in zip(*flows, strict=True)]).sum()


@dataclass(frozen=True)
class FSPConfig(StageConfig, PretrainedConfig):
    name: str = option("fsp", "flow of the solution procedure")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0},
        "weight of each loss term of the main training; the stage before it has one loss, which has no weight",
        source="RepDistiller's script, whose beta acts in neither stage",
    )
    stages: list[list[int]] | None = option(
        None, "pairs [student stage, teacher stage], 0 the stem; default: all, by position"
    )

    def default_stages(self, student: FeatureSpec, teacher: FeatureSpec) -> list[list[int]]:
        return [[0, 0], *match_stages(student, teacher)]

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> FSPConfig:
        resolved = super().resolve(student, teacher)
        assert resolved.stages is not None
        require(len(resolved.stages) > 1, f"stages={resolved.stages}: one stage has no neighbour")
        for (s, t), (ours, theirs) in zip(resolved.stages, resolved.matched(student, teacher), strict=True):
            require(
                ours[0] == theirs[0],
                f"fsp needs stages of equally many channels: the student's stage {s} has {ours[0]}, "
                f"the teacher's stage {t} has {theirs[0]}",
            )
        return resolved


@register(
    "fsp",
    FSPConfig,
    summary="inner products of neighbouring stages' channels, learned in a stage before the main training",
    reference=Reference(
        "A gift from knowledge distillation",
        "Yim, Joo, Bae & Kim",
        "CVPR",
        2017,
        "https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html",
    ),
    knowledge="relations",
)
class FSP(Method[FSPConfig]):
    """Before the main training the loss `fsp`: `fsp_loss` of the matched stages."""

    needs = frozenset({"logits"})

    @classmethod
    def needs_of(cls, config: MethodConfig) -> frozenset[str]:
        return cls.needs if "kd" in config.terms else frozenset()

    def __init__(self, config: FSPConfig, context: Context) -> None:
        super().__init__(config, context)
        self.pretraining = Pretraining(config.pretraining, ("fsp",), frozenset({"stages"}))

    def pretrain(
        self, student: Features | None, teacher: Features, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        assert student is not None
        ours, theirs = zip(*self.config.matched(student, teacher), strict=True)
        return {"fsp": fsp_loss(ours, theirs)}

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return kd_term(self, student, teacher)
