"""KD: soft targets.

Hinton, Vinyals & Dean, *Distilling the knowledge in a neural network*, NIPS 2014 workshop, arXiv:1503.02531.
The loss is that of section 2: the class probabilities at temperature T, with the factor T² that keeps its
gradient's size. Weights as in CRD (ICLR 2020), whose harness the field compares on: 0.1 ce + 0.9 kd, T = 4.

`standardise=true` is KD of standardised logits (Sun, Ren, Li, Wang & Cao, *Logit standardization in knowledge
distillation*, CVPR 2024, arXiv:2403.01427), which has a temperature and a weight of its own: z-scores are small,
and so is a divergence of them. `STANDARDISED` holds those of the authors' logs, which they chose pair by pair
without a validation split. Three pairs have no log there: they get the base setting, T = 2 and kd = 9, as their
command has it. A pair without name keeps T = 4 and kd = 0.9, so there both have to be said: `{name: kd,
standardise: true, temperature: 2, weights: {kd: 9}}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, option, standardise_of
from methods.features import Features
from methods.registry import register

# pair: temperature, weight
STANDARDISED = {
    "wrn40_2_wrn16_2": (2.0, 9.0),
    "wrn40_2_wrn40_1": (2.0, 9.0),
    "resnet56_resnet20": (2.0, 9.0),
    "resnet110_resnet20": (4.0, 12.0),
    "resnet110_resnet32": (2.0, 9.0),
    "resnet32x4_resnet8x4": (2.0, 9.0),
    "vgg13_vgg8": (3.0, 9.0),
    "vgg13_mobilenetv2": (3.0, 9.0),
    "resnet50_mobilenetv2": (3.0, 1.0),
    "resnet50_vgg8": (2.0, 9.0),  # the base setting
    "resnet32x4_shufflev1": (2.0, 9.0),  # the base setting
    "resnet32x4_shufflev2": (2.0, 9.0),
    "wrn40_2_shufflev1": (2.0, 9.0),  # the base setting
}


def kd_loss(logits_student: Tensor, logits_teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T² · KL(teacher ‖ student) of the softened class probabilities.

    Args:
        logits_student, logits_teacher: `[B, K]`.
        temperature: T > 0; a scalar tensor where it is learned.

    Returns:
        scalar, summed over classes, averaged over the batch.
    """
    log_student = F.log_softmax(logits_student / temperature, dim=1)
    log_teacher = F.log_softmax(logits_teacher / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def standardise(logits: Tensor) -> Tensor:
    """Each sample's z-score, `[B, K]`: mean 0 and (biased) standard deviation 1 over the classes.

    The authors' code divides by the unbiased standard deviation plus 1e-7, so that its scores are smaller by
    √(1 − 1/K): a factor of 1.005 for 100 classes. Here 1e-7 is added to the variance, which keeps the gradient
    of equal logits finite.
    """
    return F.layer_norm(logits, logits.shape[1:], eps=1e-7)


class Softened(Protocol):
    """The configuration of a method that compares softened class probabilities."""

    @property
    def standardise(self) -> bool: ...


def compared_logits(config: Softened, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
    """The logits whose softened probabilities are compared: as they are, or standardised.

    Equation (13) and algorithm 1 of logit standardisation: so the student need not match the range of the
    teacher's logits.
    """
    if config.standardise:
        return standardise(student.logits), standardise(teacher.logits)
    return student.logits, teacher.logits


@dataclass(frozen=True)
class KDConfig(DistillConfig):
    by_pair_with: ClassVar = {
        ("standardise", True): {
            pair: {"temperature": temperature, "weights.kd": weight}
            for pair, (temperature, weight) in STANDARDISED.items()
        }
    }

    name: str = option("kd", "Hinton's knowledge distillation")
    weights: dict[str, float] = option(
        {"ce": 0.1, "kd": 0.9},
        "weight of each loss term",
        source="CRD (ICLR 2020), RepDistiller's script",
        search={"kd": Search(0.1, 20.0, log=True)},
    )
    standardise: bool = standardise_of(
        "kd", published="whose temperature and weight then count, by pair; without a named pair set both"
    )


@register(
    "kd",
    KDConfig,
    summary="soft targets: the teacher's class probabilities at a temperature",
    reference=Reference(
        "Distilling the knowledge in a neural network",
        "Hinton, Vinyals & Dean",
        "NIPS workshop",
        2014,
        "https://arxiv.org/abs/1503.02531",
    ),
)
class KD(Method[KDConfig]):
    """Term `kd`: see `kd_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return kd_term(self, student, teacher)


def kd_term(method: Method[DistillConfig], student: Features, teacher: Features) -> dict[str, Tensor]:
    """The term `kd` of a method whose configuration carries one, or nothing where it has no weight."""
    if not method.active("kd"):
        return {}
    return {"kd": kd_loss(*compared_logits(method.config, student, teacher), method.config.temperature)}
