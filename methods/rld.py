"""RLD: refined logit distillation.

Sun, Chen, Lyu, Chen, Chen & Wang, *Knowledge distillation with refined logits*, ICCV 2025, arXiv:2408.07703. A
teacher that errs contradicts the labels, so the labels refine what is taken of it. Of its confidence only the
size: the term `scd` (sample confidence) is the divergence of two binary distributions, the teacher's of its most
probable class against all others, and the student's of the *label* against all others. Of its class relations
those below the label: the term `mcd` (masked correlation) is the divergence over the classes to which the
teacher gives less than to the label; the label and what is at least as probable to the teacher are left out of
both networks. Both carry the square of their temperature.

Where the teacher is right these are DKD's terms `tckd` and `nckd`. Where it finds nothing less probable than the
label, `mcd` has nothing to say. Weights and temperatures are those of the command in the authors' README, which
takes one temperature for both terms (`--same-t`; their code's own default for `scd` is 1). Both terms warm up over
20 of the 240 epochs as in that code, but step by step; there by min(1, e / 20) for epochs e counted from 1. With
standardised logits it takes 2 for both temperatures and 9 times both weights: set all four. Its deviation is the
unbiased one, here the biased one of `standardise`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.base import Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, standardise_of, temperature_of
from methods.dkd import tckd_loss
from methods.features import Features
from methods.kd import compared_logits, kd_loss
from methods.registry import register

TERMS = ("scd", "mcd")
LEFT_OUT = -1e9  # finite: were all classes left out, −∞ would have no softmax


def scd_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · KL of (the teacher's first class, others) ‖ (the student's label, others).

    Args:
        logits_student, logits_teacher: `[B, K]`.
        target: labels `[B]`.
        temperature: T > 0.

    Returns:
        scalar, averaged over the batch.
    """
    return tckd_loss(logits_student, logits_teacher, target, temperature, logits_teacher.argmax(dim=1))


def mcd_loss(logits_student: Tensor, logits_teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² · KL over the classes that the teacher finds less probable than the label; arguments as of `scd_loss`."""
    left_out = logits_teacher >= logits_teacher.gather(1, target[:, None])
    student, teacher = (x.masked_fill(left_out, LEFT_OUT) for x in (logits_student, logits_teacher))
    return kd_loss(student, teacher, temperature)


@dataclass(frozen=True)
class RLDConfig(DistillConfig):
    soft_terms = TERMS
    warm_up = 20 / 240

    name: str = option("rld", "refined logit distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "scd": 1.0, "mcd": 8.0},
        "weight of each loss term: alpha is that of scd, beta that of mcd",
        source="the authors' command for vgg13_vgg8: alpha = 1, beta = 8",
        search={"scd": Search(0.1, 10.0, log=True), "mcd": Search(0.5, 20.0, log=True)},
    )
    temperature: float = temperature_of("mcd", default=4.0, source="the authors' command: T = 4")
    confidence_temperature: float = option(
        4.0,
        "temperature of the class probabilities in scd",
        source="the authors' command: that of mcd",
        search=Search(1.0, 8.0),
        above=0,
        **acts_with("scd"),
    )
    standardise: bool = standardise_of(*TERMS)


@register(
    "rld",
    RLDConfig,
    summary="soft targets that labels refine: the teacher's confidence, and the classes it ranks below the label",
    reference=Reference(
        "Knowledge distillation with refined logits", "Sun et al.", "ICCV", 2025, "https://arxiv.org/abs/2408.07703"
    ),
)
class RLD(Method[RLDConfig]):
    """Terms `scd` and `mcd`: see `scd_loss` and `mcd_loss`."""

    needs = frozenset({"logits"})

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        logits = compared_logits(self.config, student, teacher)
        terms = {}
        if self.active("scd"):
            terms["scd"] = scd_loss(*logits, target, self.config.confidence_temperature)
        if self.active("mcd"):
            terms["mcd"] = mcd_loss(*logits, target, self.config.temperature)
        return terms
