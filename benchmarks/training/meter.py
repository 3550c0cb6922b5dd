"""An epoch's sums, kept on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks import metrics


class Meter(nn.Module):
    """Sample-weighted means of the loss terms and weights, accuracy, and each term's first bad step.

    It acts in every step, on a GPU in as many kernels as it has operations: so these are few.

    Args:
        terms: names of the terms, in the order of the vectors given to `update`.
        classifies: whether there is an accuracy to be told.
    """

    def __init__(self, terms: tuple[str, ...], classifies: bool = True) -> None:
        super().__init__()
        self.terms, self.classifies = terms, classifies
        num_terms = len(terms)
        # Over the epoch's samples: the terms, their weights, and the products of both.
        self.sums = nn.Buffer(torch.zeros(3 * num_terms, dtype=torch.float64))
        self.correct: Tensor = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.samples: Tensor = nn.Buffer(torch.zeros((), dtype=torch.int64))
        # The stage's steps so far, for each term; it stops counting where a value is not finite.
        self.good_steps: Tensor = nn.Buffer(torch.zeros(num_terms, dtype=torch.int64))

    @torch.no_grad()
    def update(self, losses: Tensor, weights: Tensor, logits: Tensor | None, targets: Tensor) -> None:
        """Take in the stage's next step.

        Args:
            losses: unweighted terms `[terms]`.
            weights: what each was multiplied by, `[terms]`.
            logits, targets: `[B, K]`, None where none are learned, and `[B]`.
        """
        size = targets.numel()
        self.sums.add_(torch.cat([losses, weights, losses * weights]), alpha=size)
        self.samples += size
        if logits is not None:
            self.correct += (logits.argmax(dim=1) == targets).sum()
        sums = self.sums[: len(self.terms)]
        self.good_steps += sums - sums == 0  # a sum that took in what is not finite never is again

    def row(self) -> dict[str, float]:
        """The epoch's training metrics. Reads the device."""
        samples = int(self.samples)
        losses, weights, products = (self.sums.cpu() / samples).chunk(3)
        row = {metrics.TRAIN_LOSS: float(products.sum())}
        if self.classifies:
            row[metrics.TRAIN_TOP1] = 100 * int(self.correct) / samples
        for term, loss, weight in zip(self.terms, losses.tolist(), weights.tolist(), strict=True):
            row[metrics.train_term(term)] = loss
            row[metrics.train_weight(term)] = weight
        return row

    def failure(self) -> str | None:
        """The epoch's first term that was not finite, and its step; None while all is well. Reads the device."""
        sums, steps = self.sums[: len(self.terms)].cpu(), self.good_steps.tolist()
        bad = {term: step for term, step, good in zip(self.terms, steps, sums.isfinite(), strict=True) if not good}
        if not bad:
            return None
        first = min(bad.values())
        terms = ", ".join(term for term, step in bad.items() if step == first)
        return f"the loss term {terms} is not finite at step {first + 1}"

    def reset(self) -> None:
        """Begin an epoch."""
        for sums in (self.sums, self.correct, self.samples):
            sums.zero_()
