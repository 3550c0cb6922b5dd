"""MLKD: multi-level logit distillation.

Jin, Wang & Lin, *Multi-level logit distillation*, CVPR 2023. The softened class probabilities agree at three
levels, each at several temperatures: for each instance, by Hinton's divergence; within the batch, by the matrix
of inner products of the samples' probabilities, `[B, B]`; and between classes, by that of the classes', `[K,
K]`, both by squared differences over B or K.

As in the authors' code two views of each image are used, and the cross entropy is of both. Here the terms are
averaged over views, so that their weights, 0.1 and 0.9 for each view, are doubled.

`form=code` is what that code computes, and what the published numbers were made with: its masks of unsure
samples and classes multiply numbers that were averaged before, hence halve them; batch and class are compared
in the first view only; and the last two temperatures are applied to the first view's logits in the place of the
second's. Under the same weights `form=paper`, the default, so gives batch and class 4 times and instance 4/3 of
the weight that they have there.

Deviations from that code in either form, the first of which settings undo:

- The rate and the length, in its configurations by pair. From 0.025 over 240 epochs where this suite begins with
  0.05 (`train.lr=0.025`). Where it begins with 0.01, over 480 epochs with milestones at 150, 180 and 210 all the
  same (`train.epochs=480 train.milestones=[150,180,210]`), and for resnet32x4_shufflev1 and
  resnet32x4_shufflev2 from 0.01 too, for the others from 0.0025 (`train.lr=0.0025`). Users of that code tell that
  it had 480 epochs for all until 2024, so also when the published numbers were made.
- The second view is augmented more strongly (by two random operations and a cut-out), here like the first.
- Each view is a forward pass, so that batch norms see 64 images at a time and update twice a step; here both
  views pass together, as a batch of 128.

With `standardise` all three levels read z-scores; the authors of logit standardisation, who have MLKD too, give
them to the instances' level alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, require, standardise_of
from methods.features import Features, FeatureSpec
from methods.kd import compared_logits, kd_loss
from methods.registry import register
from methods.relations import gram

TERMS = ("instance", "batch", "class")
WRONG = 2  # temperatures at the end that the authors' code applies to the first view only
MASKED = 0.5  # of the samples, or classes, are below the median of confidence

Level = Callable[[Tensor, Tensor, float], Tensor]


def batch_loss(logits_student: Tensor, logits_teacher: Tensor, temperature: float) -> Tensor:
    """Squared differences of the samples' inner products, of `[B, K]` logits, summed and divided by B."""
    student, teacher = (torch.softmax(x / temperature, dim=1) for x in (logits_student, logits_teacher))
    return (gram(student) - gram(teacher)).square().sum() / len(student)


def class_loss(logits_student: Tensor, logits_teacher: Tensor, temperature: float) -> Tensor:
    """Squared differences of the classes' inner products, of `[B, K]` logits, summed and divided by K."""
    student, teacher = (torch.softmax(x / temperature, dim=1).T for x in (logits_student, logits_teacher))
    return (gram(student) - gram(teacher)).square().sum() / len(student)


LEVELS: dict[str, Level] = {"instance": kd_loss, "batch": batch_loss, "class": class_loss}


class Form(StrEnum):
    paper = "paper"
    code = "code"


@dataclass(frozen=True)
class MLKDConfig(DistillConfig):
    soft_terms = TERMS

    name: str = option("mlkd", "multi-level logit distillation")
    weights: dict[str, float] = option(
        {"ce": 0.2, "instance": 1.8, "batch": 1.8, "class": 1.8},
        "weight of each loss term",
        source="the authors' code: 0.1 and 0.9, for each of two views",
        search={term: Search(0.2, 20.0, log=True) for term in TERMS},
    )
    temperature: float = option(
        4.0,
        "the first of the temperatures",
        source="the authors' code",
        search=Search(1.0, 8.0),
        above=0,
        **acts_with(*TERMS),
    )
    temperatures: list[float] = option(
        [3.0, 5.0, 2.0, 6.0],
        "the further temperatures",
        source="the authors' code",
        above=0,
        **acts_with(*TERMS),
    )
    views: int = option(
        2, "augmented views of each image", source="the authors' code: 2", search=Search(choices=(1, 2)), least=1
    )
    form: Form = option(
        Form.paper,
        "paper: every level of every view; code: as the authors' code computes it",
        source="MLKD (CVPR 2023)",
        search=Search(choices=tuple(Form)),
        **acts_with(*TERMS),
    )
    standardise: bool = standardise_of(
        *TERMS, published="who take temperature 2 first and 9 or 6 in the place of 0.9, here 18 or 12: set all four"
    )

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> MLKDConfig:
        if self.form == Form.code:
            require(self.views == 2, f"views={self.views}: form=code is about two views")
            require(
                len(self.temperatures) > WRONG, f"temperatures={self.temperatures}: form=code needs three or more"
            )
        return super().resolve(student, teacher)


@register(
    "mlkd",
    MLKDConfig,
    summary="soft targets at several temperatures: of instances, between samples and between classes",
    reference=Reference(
        "Multi-level logit distillation",
        "Jin, Wang & Lin",
        "CVPR",
        2023,
        "https://doi.org/10.1109/CVPR52729.2023.02325",
    ),
)
class MLKD(Method[MLKDConfig]):
    """Terms `instance`, `batch` and `class`: `kd_loss`, `batch_loss` and `class_loss` at all temperatures."""

    needs = frozenset({"logits"})

    def __init__(self, config: MLKDConfig, context: Context) -> None:
        super().__init__(config, context)
        self.num_views = config.views
        self.temperatures = [config.temperature, *config.temperatures]

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        ours, theirs = (x.chunk(self.num_views) for x in compared_logits(self.config, student, teacher))
        views = list(zip(ours, theirs, strict=True))
        compute = self._as_code if self.config.form == Form.code else self._as_paper
        return {term: compute(level, views) for term, level in LEVELS.items() if self.active(term)}

    def _as_paper(self, level: Level, views: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """All temperatures, summed, of all views, averaged."""
        losses = [level(*view, temperature) for view in views for temperature in self.temperatures]
        return torch.stack(losses).sum() / len(views)

    def _as_code(self, level: Level, views: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        weak, strong = views
        losses = [MASKED * level(*weak, temperature) for temperature in self.temperatures]
        if level is kd_loss:
            losses += [level(*strong, temperature) for temperature in self.temperatures[:-WRONG]]
            losses += [level(*weak, temperature) for temperature in self.temperatures[-WRONG:]]
        return torch.stack(losses).sum() / len(views)
