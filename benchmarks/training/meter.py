"""An epoch's sums, kept on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks import metrics


class Meter(nn.Module):
    """Sample-weighted means of the loss terms and weights, accuracy, and each term's first bad step.

    Args:
        terms: names of the terms, in the order of the vectors given to `update`.
        classifies: whether there is an accuracy to be told.
    """

    def __init__(self, terms: tuple[str, ...], classifies: bool = True) -> None:
        super().__init__()
        self.terms, self.classifies = terms, classifies
        num_terms = len(terms)
        self.register_buffer("losses", torch.zeros(num_terms, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(num_terms, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.float64))  # total loss, correct, samples
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))  # of the stage
        self.register_buffer("first_bad", torch.full((num_terms,), -1, dtype=torch.int64))
        self.losses: Tensor
        self.weights: Tensor
        self.counts: Tensor
        self.num_steps: Tensor
        self.first_bad: Tensor

    @torch.no_grad()
    def update(self, losses: Tensor, weights: Tensor, logits: Tensor | None, targets: Tensor) -> None:
        """Take in the stage's next step.

        Args:
            losses: unweighted terms `[terms]`.
            weights: what each was multiplied by, `[terms]`.
            logits, targets: `[B, K]`, None where none are learned, and `[B]`.
        """
        size = targets.numel()
        self.losses += losses.double() * size
        self.weights += weights.double() * size
        correct = targets.new_zeros(()) if logits is None else (logits.argmax(dim=1) == targets).sum()
        total = (losses * weights).sum() * size
        self.counts += torch.stack([total.double(), correct.double(), torch.full_like(total, size).double()])
        newly_bad = (self.first_bad < 0) & ~torch.isfinite(losses)
        self.first_bad.copy_(torch.where(newly_bad, self.num_steps, self.first_bad))
        self.num_steps += 1

    def row(self) -> dict[str, float]:
        """The epoch's training metrics. Reads the device."""
        total, correct, samples = self.counts.tolist()
        row = {metrics.TRAIN_LOSS: total / samples}
        if self.classifies:
            row[metrics.TRAIN_TOP1] = 100 * correct / samples
        for term, loss, weight in zip(self.terms, self.losses.tolist(), self.weights.tolist(), strict=True):
            row[metrics.train_term(term)] = loss / samples
            row[metrics.train_weight(term)] = weight / samples
        return row

    def failure(self) -> str | None:
        """Which term was first not finite, and at which step; None while all is well. Reads the device."""
        bad = {term: step for term, step in zip(self.terms, self.first_bad.tolist(), strict=True) if step >= 0}
        if not bad:
            return None
        first = min(bad.values())
        terms = ", ".join(term for term, step in bad.items() if step == first)
        return f"the loss term {terms} is not finite at step {first + 1}"

    def reset(self) -> None:
        """Begin an epoch."""
        for sums in (self.losses, self.weights, self.counts):
            sums.zero_()
