"""FitNet: hints.

Romero et al., *FitNets: hints for thin deep nets*, ICLR 2015, arXiv:1412.6550: the student's map, through a
convolutional regressor, imitates the teacher's (equation 3). As in RepDistiller, hint and task are learned
together from the start (the paper trains the hint in a stage of its own), on stage 2, by the mean squared
difference, with the regressor convolution, batch norm and ReLU. One deviation: a teacher's stage with
negative values (Wide ResNet, MobileNetV2) cannot be met from behind a ReLU, so the regressor then has none
(`activation=relu` is RepDistiller's form).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, InvalidSetting, Search, acts_with, check_stages, match_stages, option
from methods.connectors import regressor_layer
from methods.features import Features, FeatureSpec
from methods.kd import kd_term
from methods.norms import BatchNorm
from methods.registry import register


class Activation(StrEnum):
    auto = "auto"
    relu = "relu"
    linear = "linear"


@dataclass(frozen=True)
class FitNetConfig(DistillConfig):
    name: str = option("fitnet", "hints")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "hint": 100.0},
        "weight of each loss term",
        source="RepDistiller's script: beta = 100",
        search={"hint": Search(10.0, 1000.0, log=True)},
    )
    stage: int = option(
        2,
        "the student's stage that gets the hint, 0 the stem",
        source="RepDistiller: hint_layer = 2",
        search=Search(choices=(1, 2, 3)),
        **acts_with("hint"),
    )
    teacher_stage: int | None = option(
        None, "the teacher's stage that is the hint; default: the one that meets the student's", **acts_with("hint")
    )
    activation: Activation = option(
        Activation.auto,
        "of the regressor: relu, linear, or auto: relu unless the hint takes negative values",
        source="RepDistiller: relu",
        **acts_with("hint"),
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> FitNetConfig:
        resolved = super().resolve(student, teacher)
        if "hint" not in self.terms:
            return resolved
        stages = {0: 0} | {pair[0]: pair[1] for pair in match_stages(student, teacher)}
        hint = stages.get(self.stage) if self.teacher_stage is None else self.teacher_stage
        if hint is None:
            raise InvalidSetting(
                f"stage={self.stage} meets no stage of the teacher: {', '.join(map(str, stages))} do; "
                "or name a teacher_stage"
            )
        check_stages([[self.stage, hint]], student, teacher)
        activation = self.activation
        if activation == Activation.auto:
            activation = Activation.linear if teacher.signed[hint] else Activation.relu
        with torch.device("meta"):  # only to learn whether there is one
            regressor_layer(student.stages[self.stage], teacher.stages[hint])
        return dataclasses.replace(resolved, teacher_stage=hint, activation=activation)


@register(
    "fitnet",
    FitNetConfig,
    summary="hint: the teacher's map of a middle stage, through a regressor",
    reference=Reference(
        "FitNets: hints for thin deep nets", "Romero et al.", "ICLR", 2015, "https://arxiv.org/abs/1412.6550"
    ),
)
class FitNet(Method[FitNetConfig]):
    """Term `hint`: mean squared difference of the regressed student map and the teacher's."""

    needs = frozenset({"logits", "stages"})

    def __init__(self, config: FitNetConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("hint"):
            return
        assert config.teacher_stage is not None  # resolved
        self.stages_read = {config.stage}, {config.teacher_stage}
        student, teacher = context.student.stages[config.stage], context.teacher.stages[config.teacher_stage]
        rectified = config.activation == Activation.relu
        self.regressor = nn.Sequential(
            regressor_layer(student, teacher),
            BatchNorm(teacher[0]),
            nn.ReLU() if rectified else nn.Identity(),
        )

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("hint"):
            assert self.config.teacher_stage is not None  # resolved
            regressed = self.regressor(student.stages[self.config.stage])
            terms["hint"] = F.mse_loss(regressed, teacher.stages[self.config.teacher_stage])
        return terms
