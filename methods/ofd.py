"""OFD: overhaul of feature distillation.

Heo, Kim, Yun, Park, Kwak & Choi, *A comprehensive overhaul of feature distillation*, ICCV 2019,
arXiv:1904.01866. The student's pre-activations, through a 1×1 convolution and batch norm, imitate the teacher's
behind a margin ReLU max(x, m), m the expected value of a channel's negative responses. A response that the
teacher has below 0 is met by any that is lower still (the partial L2 distance).

The margins come from the batch norm before the activation, by its scale and shift as standard deviation and
mean of a normal distribution (−3 standard deviations where hardly a thousandth is negative, as the authors'
code has it). Squares are summed over a map, averaged over the batch, and stages count 2^(k−n+1), the last of n
stages 1; the weight 0.001 is mdistiller's for that. Where sides differ, which the paper does not treat, the
larger map is pooled (mdistiller: the teacher's). The convolution's weights are drawn from N(0, 2 / C), C the
teacher's channels, as in the authors' code and mdistiller. The authors run the teacher in training mode, so
that its batch norms drift with the student's batches; here it stays as it is. They train for 200 epochs in batches
of 128 from a rate of 0.1 with Nesterov's momentum; here the protocol is the suite's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Context, Method, Network, Reference
from methods.config import PreactConfig, Search, option
from methods.connectors import conv_bn_by_fan_out
from methods.features import Features
from methods.kd import kd_term
from methods.maps import pool_to_smaller
from methods.registry import register

RARE = 0.001  # a part of negative responses that is too small for its mean to be known


def margin(norm: nn.BatchNorm2d) -> Tensor:
    """The mean of the negative part of each channel's N(shift, scale²): `[C]`."""
    mean = norm.bias.detach().double()
    std = norm.weight.detach().double().abs().clamp_min(torch.finfo(torch.float32).tiny)
    ratio = mean / std
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    negative = torch.special.ndtr(-ratio)
    return torch.where(negative > RARE, mean - std * density / negative, -3 * std)


def ofd_loss(student: Tensor, teacher: Tensor, margins: Tensor) -> Tensor:
    """Partial L2 distance from the teacher behind its margin ReLU.

    Args:
        student, teacher: pre-activations `[B, C, H, W]`.
        margins: `[C, 1, 1]`.

    Returns:
        scalar, summed over a map, averaged over the batch.
    """
    target = torch.maximum(teacher, margins)
    met = (student <= target) & (target <= 0)
    return ((student - target).square() * ~met).sum() / student.shape[0]


@dataclass(frozen=True)
class OFDConfig(PreactConfig):
    name: str = option("ofd", "overhaul of feature distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "ofd": 0.001},
        "weight of each loss term",
        source="the authors' code on CIFAR-100 and mdistiller: 1/1000",
        search={"ofd": Search(1e-4, 1e-2, log=True)},
    )


@register(
    "ofd",
    OFDConfig,
    summary="pre-activations behind a margin ReLU, by a distance that spares what is inactive",
    reference=Reference(
        "A comprehensive overhaul of feature distillation",
        "Heo et al.",
        "ICCV",
        2019,
        "https://arxiv.org/abs/1904.01866",
    ),
)
class OFD(Method[OFDConfig]):
    """Term `ofd`: `ofd_loss` of the matched stages."""

    needs = frozenset({"logits", "preacts"})

    def __init__(self, config: OFDConfig, context: Context) -> None:
        super().__init__(config, context)
        shapes = config.matched(context.student, context.teacher) if self.active("ofd") else []
        self.connectors = nn.ModuleList([conv_bn_by_fan_out(ours[0], theirs[0]) for ours, theirs in shapes])
        for k, (_, theirs) in enumerate(shapes):
            # Not a number until the teacher was looked at.
            self.register_buffer(f"margins{k}", torch.full((theirs[0], 1, 1), math.nan))

    def prepare(self, teacher: Network, student: Network) -> None:
        super().prepare(teacher, student)
        if not self.active("ofd"):
            return
        norms = teacher.norms()
        assert self.config.stages is not None  # resolved
        for k, (_, stage) in enumerate(self.config.stages):
            self.get_buffer(f"margins{k}").copy_(margin(norms[stage - 1])[:, None, None])

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("ofd"):
            self.check_prepared()
            pairs = self.config.matched(student, teacher)
            losses = []
            for k, (connect, (ours, theirs)) in enumerate(zip(self.connectors, pairs, strict=True)):
                ours, theirs = pool_to_smaller(connect(ours), theirs)
                losses.append(2.0 ** (k - len(pairs) + 1) * ofd_loss(ours, theirs, self.get_buffer(f"margins{k}")))
            terms["ofd"] = torch.stack(losses).sum()
        return terms
