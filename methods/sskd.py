"""SSKD: knowledge distillation meets self-supervision.

Xu, Liu, Li & Loy, *Knowledge distillation meets self-supervision*, ECCV 2020, arXiv:2006.07114. Each image is
shown upright and turned by one, two and three quarters. Beyond classes a network knows how similar a turned image
is to each upright one of the batch: the cosine of what a head, a two-layer perceptron, makes of their embeddings.
In a stage of its own the teacher's head learns to find the image that a turned one was made of. In the main
training, beside cross entropy and Hinton's `kd` of the upright images, the student is to have the teacher's
softened similarities (`ss`), through a head of its own, and its class probabilities of turned images (`tf`).

A teacher may be wrong about images unlike those that it learned from. So its predictions are ranked by the place of
what is true, image or label: all that are right are taken, and of the others a part, those of the best ranks.

The authors' form, weights and settings, which are one set for all pairs. As in their code, all four views are one
batch to batch norms, each is cropped by itself, they are mirrored together, and a term is the mean over the
predictions taken. The published accuracies are of the best epoch, under teachers of their own.

Deviation: among predictions of the same rank, where only some are taken, the first in the batch are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Pretraining, Reference
from methods.config import DistillConfig, Search, acts_with, option, pretraining_of, standardise_of, temperature_of
from methods.features import Features
from methods.kd import compared_logits, kd_loss
from methods.registry import register
from methods.relations import unit_vectors

NUM_TURNS = 4  # upright, and by one, two and three quarters


def similarities(vectors: Tensor) -> Tensor:
    """Cosines of each turned image and each upright one.

    Args:
        vectors: of the four views, one behind the other, `[4 · B, D]`.

    Returns:
        `[3 · B, B]`.
    """
    upright, *turned = unit_vectors(vectors).chunk(NUM_TURNS)
    return torch.cat(turned) @ upright.T


def own_images(similar: Tensor) -> Tensor:
    """For each turned image of `similarities` `[3 · B, B]` the upright one that it was made of, `[3 · B]`."""
    num_turned, num_upright = similar.shape
    return torch.arange(num_turned, device=similar.device) % num_upright


def taken(scores: Tensor, true: Tensor, part: float) -> Tensor:
    """Which predictions are taken, bool `[R]`: all that are right, and a part of the wrong ones, best ranks first.

    Args:
        scores: of R predictions over C columns, `[R, C]`.
        true: the right column of each, `[R]`.
        part: of the wrong ones, rounded down.
    """
    rank = (scores > scores.gather(1, true[:, None])).sum(dim=1)
    num_wrong = (rank > 0).sum()
    num_taken = len(rank) - num_wrong + (part * num_wrong.double()).long()
    return rank.argsort(stable=True).argsort() < num_taken


def ranked_loss(student: Tensor, teacher: Tensor, true: Tensor, part: float, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of softened probabilities, averaged over the teacher's predictions `taken`.

    Args:
        student, teacher: scores `[R, C]`.
        true, part: as of `taken`.
        temperature: T > 0.

    Returns:
        scalar; 0 if none is taken.
    """
    log_student, log_teacher = (F.log_softmax(scores / temperature, dim=1) for scores in (student, teacher))
    divergences = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1)
    chosen = taken(teacher, true, part)
    return temperature**2 * (divergences * chosen).sum() / chosen.sum().clamp(min=1)


def head(width: int) -> nn.Sequential:
    """From an embedding `[B, D]` to what similarities are taken of, `[B, D]`."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def wrong_of(term: str, default: float, what: str) -> Any:
    """The field for the part of the teacher's wrong predictions, `what`, that a term learns from."""
    return option(
        default,
        f"part of the teacher's wrong {what} that are learned from",
        source=f"SSKD's authors' code: ratio_{term}",
        search=Search(0.0, 1.0),
        least=0,
        most=1,
        **acts_with(term),
    )


@dataclass(frozen=True)
class SSKDConfig(DistillConfig):
    soft_terms = ("kd", "tf")

    name: str = option("sskd", "distillation with self-supervision")
    weights: dict[str, float] = option(
        {"ce": 0.1, "kd": 0.9, "tf": 2.7, "ss": 10.0},
        "weight of each loss term",
        source="SSKD's authors' code",
        search={
            "kd": Search(0.1, 20.0, log=True),
            "tf": Search(0.3, 30.0, log=True),
            "ss": Search(1.0, 100.0, log=True),
        },
    )
    temperature: float = temperature_of(*soft_terms, default=4.0, source="SSKD's authors' code: kd_T = tf_T = 4")
    standardise: bool = standardise_of(*soft_terms)
    pretraining: float = pretraining_of(0.25, "SSKD's authors' code: 60 epochs before 240", **acts_with("ss"))
    ss_temperature: float = option(
        0.5,
        "temperature of the similarities",
        source="SSKD's authors' code",
        search=Search(0.1, 2.0, log=True),
        above=0,
        **acts_with("ss"),
    )
    ss_wrong: float = wrong_of("ss", 0.75, "similarities")
    tf_wrong: float = wrong_of("tf", 1.0, "predictions of turned images")


@register(
    "sskd",
    SSKDConfig,
    summary="similarities of turned images to upright ones, and soft targets of both",
    reference=Reference(
        "Knowledge distillation meets self-supervision",
        "Xu, Liu, Li & Loy",
        "ECCV",
        2020,
        "https://arxiv.org/abs/2006.07114",
    ),
    knowledge="relations, logits",
)
class SSKD(Method[SSKDConfig]):
    """Terms `kd`, `tf` and `ss`; before the main training the loss `find` of the teacher's head."""

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config: SSKDConfig, context: Context) -> None:
        super().__init__(config, context)
        if self.active("tf") or self.active("ss"):
            self.num_views, self.turned = NUM_TURNS, True
        if self.active("ss"):
            self.pretraining = Pretraining(
                config.pretraining,
                ("find",),
                frozenset({"embedding"}),
                student=False,
                lr=0.05,
                milestones=(0.5, 0.75),
            )
            self.head_teacher = head(context.teacher.embedding)
            self.head_student = head(context.student.embedding)

    def pretrain(
        self, student: Features | None, teacher: Features, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        found = similarities(self.head_teacher(teacher.embedding))
        return {"find": F.cross_entropy(found, own_images(found))}

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = {}
        config, temperature = self.config, self.config.temperature
        ours, theirs = compared_logits(config, student, teacher)
        upright = len(self.labelled(target))
        if self.active("kd"):
            terms["kd"] = kd_loss(ours[:upright], theirs[:upright], temperature)
        if self.active("tf"):
            labels = target[upright:]
            terms["tf"] = ranked_loss(ours[upright:], theirs[upright:], labels, config.tf_wrong, temperature)
        if self.active("ss"):
            terms["ss"] = self._ss(student, teacher)
        return terms

    def _ss(self, student: Features, teacher: Features) -> Tensor:
        ours = similarities(self.head_student(student.embedding))
        with torch.no_grad():  # the teacher's head has learned
            theirs = similarities(self.head_teacher(teacher.embedding))
        return ranked_loss(ours, theirs, own_images(ours), self.config.ss_wrong, self.config.ss_temperature)
