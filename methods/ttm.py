"""TTM: transformed teacher matching.

Zheng & Yang, *Knowledge distillation based on transformed teacher matching*, ICLR 2024, arXiv:2402.11148. A
temperature T is a power transform: it raises the class probabilities to the power γ = 1/T and normalises them
anew (equations 7 to 9). TTM transforms the teacher's alone: the term is KL(teacher^γ, normalised ‖ student),
the student's probabilities as they are (equation 2). There is no factor T². But for a constant that is T times
KD's divergence, less T − 1 times a Rényi entropy of the student, which penalises confidence (equation 15).

`weighted=true` is WTTM (section 4): each sample is weighted by the sum of the teacher's powers, U = Σ pᵞ, from 1
for a certain teacher to K^(1−γ) for one that knows nothing, hence by a far smaller β. The authors tuned γ and β
pair by pair: `TUNED` and `TUNED_WEIGHTED` hold their tables 8 and 9. For other pairs γ and β are those of
vgg13_vgg8, this project's choice.

Powers are taken of log-probabilities, which do not underflow as the probabilities of the authors' code may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Reference
from methods.config import MethodConfig, Search, acts_with, option
from methods.features import Features
from methods.registry import register

# pair: exponent, weight
TUNED = {
    "wrn40_2_wrn16_2": (0.1, 101.0),
    "wrn40_2_wrn40_1": (0.1, 76.0),
    "resnet56_resnet20": (0.3, 7.0),
    "resnet110_resnet20": (0.2, 8.0),
    "resnet110_resnet32": (0.1, 33.0),
    "resnet32x4_resnet8x4": (0.1, 100.0),
    "vgg13_vgg8": (0.1, 45.0),
    "vgg13_mobilenetv2": (0.2, 16.0),
    "resnet50_mobilenetv2": (0.2, 20.0),
    "resnet50_vgg8": (0.1, 70.0),
    "resnet32x4_shufflev1": (0.2, 12.0),
    "resnet32x4_shufflev2": (0.4, 40.0),
    "wrn40_2_shufflev1": (0.3, 8.0),
}
TUNED_WEIGHTED = {
    "wrn40_2_wrn16_2": (0.1, 4.0),
    "wrn40_2_wrn40_1": (0.1, 3.0),
    "resnet56_resnet20": (0.3, 1.5),
    "resnet110_resnet20": (0.2, 2.0),
    "resnet110_resnet32": (0.1, 1.5),
    "resnet32x4_resnet8x4": (0.1, 3.0),
    "vgg13_vgg8": (0.1, 2.25),
    "vgg13_mobilenetv2": (0.2, 3.0),
    "resnet50_mobilenetv2": (0.2, 5.0),
    "resnet50_vgg8": (0.1, 2.0),
    "resnet32x4_shufflev1": (0.2, 1.4),
    "resnet32x4_shufflev2": (0.4, 16.0),
    "wrn40_2_shufflev1": (0.3, 3.0),
}


def ttm_loss(logits_student: Tensor, logits_teacher: Tensor, exponent: float, weighted: bool = False) -> Tensor:
    """KL(transformed teacher ‖ student).

    Args:
        logits_student, logits_teacher: `[B, K]`.
        exponent: γ, of the teacher's probabilities.
        weighted: weight each sample by its power sum U.

    Returns:
        scalar, summed over classes, averaged over the batch.
    """
    log_powers = exponent * F.log_softmax(logits_teacher, dim=1)
    log_sum = log_powers.logsumexp(dim=1)
    transformed = log_powers - log_sum[:, None]
    log_student = F.log_softmax(logits_student, dim=1)
    divergence = F.kl_div(log_student, transformed, reduction="none", log_target=True).sum(dim=1)
    return (log_sum.exp() * divergence if weighted else divergence).mean()


def _settings(tuned: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, Any]]:
    return {pair: {"exponent": exponent, "weights.ttm": weight} for pair, (exponent, weight) in tuned.items()}


@dataclass(frozen=True)
class TTMConfig(MethodConfig):
    soft_terms = ("ttm",)
    by_pair: ClassVar = _settings(TUNED)
    by_pair_with: ClassVar = {("weighted", True): _settings(TUNED_WEIGHTED | {"": TUNED_WEIGHTED["vgg13_vgg8"]})}

    name: str = option("ttm", "transformed teacher matching")
    weights: dict[str, float] = option(
        {"ce": 1.0, "ttm": 45.0},
        "weight of each loss term: beta is that of ttm",
        source="TTM (ICLR 2024), tables 8 and 9: beta by pair; 45 is that of vgg13_vgg8 without weighted",
        search={"ttm": Search(0.5, 200.0, log=True)},
    )
    exponent: float = option(
        0.1,
        "gamma, the power that the teacher's probabilities are raised to: 1 / temperature",
        source="TTM (ICLR 2024), tables 8 and 9: by pair; 0.1 is that of vgg13_vgg8",
        search=Search(0.05, 1.0, log=True),
        above=0,
        most=1,
        **acts_with("ttm"),
    )
    weighted: bool = option(
        False,
        "WTTM: weight each sample by the sum of the teacher's powers, more where the teacher is less certain",
        source="TTM (ICLR 2024), sec. 4",
        search=Search(choices=(True, False)),
        **acts_with("ttm"),
    )


@register(
    "ttm",
    TTMConfig,
    summary="soft targets: the teacher's probabilities at a temperature, the student's without one",
    reference=Reference(
        "Knowledge distillation based on transformed teacher matching",
        "Zheng & Yang",
        "ICLR",
        2024,
        "https://arxiv.org/abs/2402.11148",
    ),
)
class TTM(Method[TTMConfig]):
    """Term `ttm`: see `ttm_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        if not self.active("ttm"):
            return {}
        return {"ttm": ttm_loss(student.logits, teacher.logits, self.config.exponent, self.config.weighted)}
