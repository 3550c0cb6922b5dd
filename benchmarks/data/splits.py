"""Fixed stratified splits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.errors import require


def stratified(targets: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Ascending indices of the part kept and of the part held out, each class in proportion; always the same.

    Raises:
        UserError: a part would lack classes.
    """
    from sklearn.model_selection import train_test_split

    num_images, classes = targets.numel(), targets.unique(return_counts=True)[1]
    num_held_out = math.ceil(fraction * num_images)
    require(
        len(classes) <= min(num_held_out, num_images - num_held_out) and classes.min() > 1,
        f"data.validation={fraction} of {num_images:,} images holds out {num_held_out:,} and leaves "
        f"{num_images - num_held_out:,}: both parts need one image at least of each of the {len(classes)} classes",
    )
    kept, held_out = train_test_split(
        range(num_images), test_size=num_held_out, stratify=targets.numpy(), random_state=0
    )
    return torch.tensor(sorted(kept)), torch.tensor(sorted(held_out))
