"""ICKD: inter-channel correlation.

Liu et al., *Exploring inter-channel correlation for diversity-preserved knowledge distillation*, ICCV 2021,
arXiv:2202.03680; ICKD-C, its form for classification. Which channels of a map are alike and which are diverse
is to be the same in both networks: with F the map of one sample, `[C, H·W]`, its channels' correlations are F
Fᵀ, `[C, C]`, each row brought to unit length, and their squared differences are the loss.

As in the authors' code for CIFAR-100 the maps are those that are pooled to the embedding; the student's goes
through a 1 × 1 convolution and batch norm to the teacher's channels, be there as many or not; and the squares
are summed over a row, then averaged over rows and batch, which their weight of 2.5 is for. A channel that is 0
everywhere correlates with none: its row is 0.

No `[C, C]` matrix is needed where the positions are fewer. Rows i of F Fᵀ and G Gᵀ have the inner product f_iᵀ
(Fᵀ G) g_i, which is also (f_iᵀ Fᵀ) G g_i, and such products give the rows' lengths and the angle between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, option
from methods.connectors import conv_bn
from methods.features import Features
from methods.kd import kd_term
from methods.registry import register
from methods.relations import inverse, root


def row_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of the rows of two correlations, row by row.

    Args:
        first: maps `[B, C, N]`.
        second: maps `[B, C, M]`.

    Returns:
        `[B, C]`.
    """
    channels = first.shape[1]
    if first.shape[2] * second.shape[2] <= channels**2:
        product = first @ (first.transpose(1, 2) @ second)
    else:
        product = (first @ first.transpose(1, 2)) @ second
    return (product * second).sum(dim=2)


def ickd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the row-normalised correlations of channels.

    Args:
        student: `[B, C, H, W]`.
        teacher: `[B, C, H', W']`.

    Returns:
        scalar, averaged over the rows and the batch.
    """
    student, teacher = student.flatten(2), teacher.flatten(2)
    squared_student, squared_teacher = row_products(student, student), row_products(teacher, teacher)
    lengths = inverse(root(squared_student)) * inverse(root(squared_teacher))
    cosines = row_products(student, teacher) * lengths
    # The squared lengths of the normalised rows: 1, or 0 of a channel that is dead.
    squares = sum((squared > 0).to(cosines.dtype) for squared in (squared_student, squared_teacher))
    return (squares - 2 * cosines).mean()


@dataclass(frozen=True)
class ICKDConfig(DistillConfig):
    name: str = option("ickd", "inter-channel correlation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "ickd": 2.5},
        "weight of each loss term",
        source="the authors' script for CIFAR-100: beta = 2.5; with soft targets: kd = 1",
        search={"ickd": Search(0.25, 25.0, log=True)},
    )


@register(
    "ickd",
    ICKDConfig,
    summary="correlations between the channels of the last map",
    reference=Reference(
        "Exploring inter-channel correlation for diversity-preserved knowledge distillation",
        "Liu et al.",
        "ICCV",
        2021,
        "https://arxiv.org/abs/2202.03680",
    ),
    knowledge="relations",
)
class ICKD(Method[ICKDConfig]):
    """Term `ickd`: `ickd_loss` of the connected student's final map and the teacher's."""

    needs = frozenset({"logits", "final"})

    def __init__(self, config: ICKDConfig, context: Context) -> None:
        super().__init__(config, context)
        if self.active("ickd"):
            self.connector = conv_bn(context.student.embedding, context.teacher.embedding)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("ickd"):
            assert student.final is not None
            assert teacher.final is not None
            terms["ickd"] = ickd_loss(self.connector(student.final), teacher.final)
        return terms
