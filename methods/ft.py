"""FT: factor transfer.

Kim, Park & Kwak, *Paraphrasing complex network: network compression via factor transfer*, NeurIPS 2018,
arXiv:1802.04977. In a stage of its own a paraphraser learns to reconstruct the teacher's last map through a
bottleneck, whose values are the teacher's factors. In the main training a translator takes the student's map to
as many factors, and the normalised factors are to agree (in the norm p = 1).

The paper normalises a sample's factors as one vector, averages absolute differences and weighs them by 500;
`factor=spatial` is RepDistiller's form, the normalised mean over channels of the squared factors, weighed by
200. The architectures are RepDistiller's: the paraphraser without batch norm, the translator with it, which the
authors' code has in neither. The paraphraser learns at a rate of 0.01. RepDistiller takes that for ResNets and
Wide ResNets as students, and for others the rate that the main training begins with: 0.01 too, but for vgg8 0.05
(`paraphraser_lr=0.05`). Its reconstruction error is squared, as there; the authors' code, which serves CIFAR-10,
takes the absolute one, for six epochs at a rate of 0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.at import attention_map
from methods.base import Context, Method, Pretraining, Reference
from methods.config import DistillConfig, Search, acts_with, option, pretraining_of
from methods.connectors import conv_bn
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register
from methods.relations import unit_vectors

SLOPE = 0.1  # of the leaky ReLUs


class Factor(StrEnum):
    whole = "whole"
    spatial = "spatial"


def normalised(factors: Tensor, factor: Factor) -> Tensor:
    """Unit vectors of a sample's factors `[B, C, H, W]`: of them all, `[B, C·H·W]`, or of their map, `[B, H·W]`."""
    return attention_map(factors, p=2) if factor == Factor.spatial else unit_vectors(factors.flatten(1))


def ft_loss(student: Tensor, teacher: Tensor, factor: Factor = Factor.whole) -> Tensor:
    """Mean absolute difference of normalised factors; the larger map is pooled to the smaller first.

    Args:
        student: `[B, C, H, W]`.
        teacher: `[B, C, H', W']`.
        factor: which are compared.

    Returns:
        scalar.
    """
    student, teacher = pool_to_smaller(student, teacher)
    return (normalised(student, factor) - normalised(teacher, factor)).abs().mean()


def _leaky(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Each layer with a leaky ReLU behind it."""
    for layer in layers:
        yield from (layer, nn.LeakyReLU(SLOPE))


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's map, `[B, C, H, W]` to itself through `[B, num_factors, H, W]`."""

    def __init__(self, channels: int, num_factors: int) -> None:
        super().__init__()
        down = ((channels, channels), (channels, num_factors), (num_factors, num_factors))
        up = ((num_factors, num_factors), (num_factors, channels), (channels, channels))
        self.encoder = nn.Sequential(*_leaky(nn.Conv2d(*pair, kernel_size=3, padding=1) for pair in down))
        self.decoder = nn.Sequential(*_leaky(nn.ConvTranspose2d(*pair, kernel_size=3, padding=1) for pair in up))

    def forward(self, teacher: Tensor) -> Tensor:
        return self.decoder(self.encoder(teacher))


def translator(channels: int, num_factors: int) -> nn.Sequential:
    """The student's map `[B, channels, H, W]` to its factors `[B, num_factors, H, W]`."""
    pairs = ((channels, channels), (channels, num_factors), (num_factors, num_factors))
    return nn.Sequential(*_leaky(conv_bn(*pair, kernel_size=3) for pair in pairs))


@dataclass(frozen=True)
class FTConfig(DistillConfig):
    by_pair_with: ClassVar = {("factor", Factor.spatial): {"": {"weights.ft": 200.0}}}

    name: str = option("ft", "factor transfer")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "ft": 500.0},
        "weight of each loss term",
        source="FT's authors: beta = 500; RepDistiller, with factor=spatial: 200",
        search={"ft": Search(20.0, 2000.0, log=True)},
    )
    pretraining: float = pretraining_of(**acts_with("ft"))
    rate: float = option(
        0.5,
        "factors for each channel of the teacher's last stage",
        source="FT (NeurIPS 2018): k = 0.5",
        search=Search(0.25, 1.0),
        above=0,
        most=1,
        **acts_with("ft"),
    )
    factor: Factor = option(
        Factor.whole,
        "what is compared: all factors (the paper), or spatial, their squares' mean over channels (RepDistiller)",
        source="FT (NeurIPS 2018) and its authors' code",
        search=Search(choices=tuple(Factor)),
        **acts_with("ft"),
    )
    paraphraser_lr: float = option(
        0.01,
        "learning rate of the paraphraser",
        source="RepDistiller, for ResNets and Wide ResNets",
        above=0,
        **acts_with("ft"),
    )


@register(
    "ft",
    FTConfig,
    summary="factors of the teacher's last stage, from an autoencoder learned before the main training",
    reference=Reference(
        "Paraphrasing complex network: network compression via factor transfer",
        "Kim, Park & Kwak",
        "NeurIPS",
        2018,
        "https://arxiv.org/abs/1802.04977",
    ),
)
class FT(Method[FTConfig]):
    """Term `ft`: `ft_loss` of translated student and teacher; before that the paraphraser's loss `paraphrase`."""

    needs = frozenset({"logits", "stages"})

    def __init__(self, config: FTConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("ft"):
            return
        self.pretraining = Pretraining(
            config.pretraining, ("paraphrase",), frozenset({"stages"}), student=False, lr=config.paraphraser_lr
        )
        self.stages_read = {len(context.student.stages) - 1}, {len(context.teacher.stages) - 1}
        channels = context.teacher.stages[-1][0]
        num_factors = max(1, int(channels * config.rate))
        self.paraphraser = Paraphraser(channels, num_factors)
        self.translator = translator(context.student.stages[-1][0], num_factors)

    def pretrain(
        self, student: Features | None, teacher: Features, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        return {"paraphrase": F.mse_loss(self.paraphraser(teacher.stages[-1]), teacher.stages[-1])}

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("ft"):
            with torch.no_grad():  # the paraphraser has learned
                factors = self.paraphraser.encoder(teacher.stages[-1])
            terms["ft"] = ft_loss(self.translator(student.stages[-1]), factors, self.config.factor)
        return terms
