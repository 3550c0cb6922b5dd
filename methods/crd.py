"""CRD: contrastive representation distillation.

Tian, Krishnan & Isola, *Contrastive representation distillation*, ICLR 2020, arXiv:1910.10699. The student's
embedding of an image is to be recognised among the teacher's embeddings of other images, and vice versa, by
noise-contrastive estimation (equations 12 to 18) against a memory bank of all training images.

Follows the authors' code where the paper leaves room: the positive, too, is read from the bank; the
normalising constant Z is set from the first batch and then kept; a bank row moves to the normalised mean of
itself and the new embedding (momentum 0.5) after it was scored. Negatives come from other classes.

Deviations: negatives are drawn with replacement, on the device; scores come from one product with the whole
bank and are then gathered, which is the same estimator without copying B·(1+N) rows; with fewer than N samples
of other classes, as many negatives as there are.

The estimator is logistic regression: with P = exp(score / temperature) / Z and k the noise's part, the row is
the anchor's own with probability P / (P + k) = sigmoid(log P − log k). So loss and gradient (`logistic_loss`)
are written in terms of log P − log k, called evidence here, which `MemoryBank.contrast` computes: finite and
exact where P itself is huge or tiny.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.base import Context, Method, Reference
from methods.config import DistillConfig, Search, acts_with, option, require
from methods.features import Features
from methods.graphs import leave_graph
from methods.kd import kd_term
from methods.registry import register

EPS = 1e-7


def logistic_loss(evidence: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic loss of telling the anchor's own row from others, summed over rows, averaged over the batch.

    Args:
        evidence: that a row is the anchor's own, log odds, `[B, 1 + N]`; it is in column 0.

    Returns:
        a scalar, and its gradient for `evidence`.
    """
    batch_size = evidence.shape[0]
    own, others = evidence[:, 0], evidence[:, 1:]
    loss = -(F.logsigmoid(own).sum() + F.logsigmoid(-others).sum()) / batch_size
    missed = torch.cat([-torch.sigmoid(-own)[:, None], torch.sigmoid(others)], dim=1)
    return loss, missed / batch_size


class NegativeSampler(nn.Module):
    """Draws indices of training samples of other classes, uniformly with replacement, on the device."""

    def __init__(self, targets: Tensor, num_classes: int) -> None:
        super().__init__()
        counts = torch.bincount(targets, minlength=num_classes)
        #: sample indices in the order of their classes, and where each class's block lies in it
        self.by_class = nn.Buffer(torch.argsort(targets, stable=True), persistent=False)
        self.count = nn.Buffer(counts, persistent=False)
        self.start = nn.Buffer(counts.cumsum(0) - counts, persistent=False)
        self.num_data = targets.numel()
        self.num_others = self.num_data - int(counts.max())

    def forward(self, target: Tensor, num_negatives: int, generator: torch.Generator) -> Tensor:
        """Indices `[B, num_negatives]` for anchors of the classes `target`, `[B]`."""
        uniform = torch.rand(
            target.numel(), num_negatives, generator=generator, device=target.device, dtype=torch.float64
        )
        count, start = self.count[target, None], self.start[target, None]
        position = (uniform * (self.num_data - count)).long()
        # Leave out the anchor's own class: positions from its block on are shifted past it.
        position += (position >= start) * count
        return self.by_class[position]


class MemoryBank(nn.Module):
    """A running embedding of every training image, `[N, D]`, scored against anchors of the other network."""

    def __init__(self, num_data: int, dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim / 3)  # rows of about unit length
        self.rows = nn.Buffer(torch.empty(num_data, dim).uniform_(-bound, bound))
        self.z = nn.Buffer(torch.zeros(()))  # 0: not set yet

    def contrast(self, anchor: Tensor, index: Tensor, temperature: float) -> Tensor:
        """NCE of recognising the anchors' own rows: a scalar, whose gradients flow into the anchors.

        Args:
            anchor: unit embeddings `[B, D]`.
            index: rows to score, `[B, 1 + N]`; the anchor's own in column 0.

        The first call in training sets Z to the mean of exp(score / temperature) times the size of the bank.
        """
        loss, gradient = self._contrast(anchor.detach(), index, temperature)
        # The gradient was taken at once: before the backward pass, the bank moves.
        return loss + ((anchor - anchor.detach()) * gradient).sum()

    @torch.no_grad()
    def _contrast(self, anchor: Tensor, index: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient for the anchors."""
        num_data, num_negatives = self.rows.shape[0], index.shape[1] - 1
        all_scores = anchor @ self.rows.T
        scores = all_scores.gather(1, index) / temperature
        # On the device, without asking whether it is the first batch.
        z = torch.where(self.z == 0, scores.exp().mean() * num_data, self.z)
        if self.training:
            self.z.copy_(z)
        noise = num_negatives / num_data  # uniform over the training set
        loss, missed = logistic_loss(scores - (z * (noise + EPS)).log())
        loss = loss + num_negatives * math.log1p(EPS / noise)  # EPS is in the denominators alone
        gradient = torch.zeros_like(all_scores).scatter_add_(1, index, missed) @ self.rows
        return loss, gradient / temperature

    @torch.no_grad()
    def update(self, embedding: Tensor, index: Tensor, momentum: float) -> None:
        """Move the rows `index` `[B]` towards `embedding` `[B, D]`, and back to unit length."""
        leave_graph()
        moved = momentum * self.rows[index] + (1 - momentum) * embedding
        self.rows.index_copy_(0, index, F.normalize(moved, dim=1))


@dataclass(frozen=True)
class CRDConfig(DistillConfig):
    name: str = option("crd", "contrastive representation distillation")
    weights: dict[str, float] = option(
        {"ce": 1.0, "kd": 0.0, "crd": 0.8},
        "weight of each loss term",
        source="CRD (ICLR 2020): beta = 0.8; CRD+KD: kd = 1",
        search={"crd": Search(0.1, 5.0, log=True)},
    )
    dim: int = option(
        128,
        "length of the embeddings that are compared",
        source="CRD (ICLR 2020)",
        search=Search(choices=(64, 128, 256)),
        least=1,
        **acts_with("crd"),
    )
    num_negatives: int = option(
        16384,
        "negatives for each image, or as many as there are of other classes",
        source="CRD (ICLR 2020), sec. 4: N = 16384",
        search=Search(choices=(1024, 4096, 16384)),
        least=1,
        **acts_with("crd"),
    )
    contrast_temperature: float = option(
        0.07,
        "temperature of the scores",
        source="RepDistiller: nce_t = 0.07",
        search=Search(0.02, 0.3, log=True),
        above=0,
        **acts_with("crd"),
    )
    momentum: float = option(
        0.5, "of the memory bank's rows", source="RepDistiller: nce_m = 0.5", least=0, below=1, **acts_with("crd")
    )


@register(
    "crd",
    CRDConfig,
    summary="contrast of embeddings against a memory bank",
    reference=Reference(
        "Contrastive representation distillation",
        "Tian, Krishnan & Isola",
        "ICLR",
        2020,
        "https://arxiv.org/abs/1910.10699",
    ),
    knowledge="relations",
)
class CRD(Method[CRDConfig]):
    """Term `crd`: NCE of the student's anchors in the teacher's bank plus the teacher's in the student's.

    Every forward in training mode moves the banks.
    """

    needs = frozenset({"logits", "embedding"})

    def __init__(self, config: CRDConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.active("crd"):
            return
        num_data = context.targets.numel()
        self.embed_student = nn.Linear(context.student.embedding, config.dim)
        self.embed_teacher = nn.Linear(context.teacher.embedding, config.dim)
        self.bank_student = MemoryBank(num_data, config.dim)
        self.bank_teacher = MemoryBank(num_data, config.dim)
        self.sampler = NegativeSampler(context.targets, context.num_classes)
        require(self.sampler.num_others > 0, "crd needs at least two classes in the training set")
        self.num_negatives = min(config.num_negatives, self.sampler.num_others)

    def forward(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = kd_term(self, student, teacher)
        if self.active("crd"):
            terms["crd"] = self._crd(student, teacher, target, index)
        return terms

    def _crd(self, student: Features, teacher: Features, target: Tensor, index: Tensor) -> Tensor:
        negatives = self.sampler(target, self.num_negatives, self.generator)
        anchor_student = F.normalize(self.embed_student(student.embedding), dim=1)
        anchor_teacher = F.normalize(self.embed_teacher(teacher.embedding), dim=1)
        rows = torch.cat([index[:, None], negatives], dim=1)
        temperature = self.config.contrast_temperature
        loss = self.bank_teacher.contrast(anchor_student, rows, temperature)
        loss = loss + self.bank_student.contrast(anchor_teacher, rows, temperature)
        if self.training:
            self.bank_student.update(anchor_student, index, self.config.momentum)
            self.bank_teacher.update(anchor_teacher, index, self.config.momentum)
        return loss

    def diagnostics(self, terms: Mapping[str, float]) -> dict[str, float]:
        """Z of the two banks, which the first batch fixed."""
        if not self.active("crd"):
            return {}
        return {"crd_z_student": self.bank_student.z.item(), "crd_z_teacher": self.bank_teacher.z.item()}
