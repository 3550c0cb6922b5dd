"""The student alone, trained by cross entropy: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.base import Method
from methods.config import ALONE, MethodConfig, option
from methods.features import Features
from methods.registry import register


@dataclass(frozen=True)
class NoneConfig(MethodConfig):
    name: str = option(ALONE, "the student alone")


@register(
    ALONE,
    NoneConfig,
    summary="the student alone, by cross entropy",
    reference=None,
    knowledge="nothing",
)
class NoDistillation(Method[NoneConfig]):
    """No term beside the harness's `ce`; needs no teacher."""

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {}
