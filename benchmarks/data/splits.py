"""Fixed stratified splits."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.errors import UserError


def stratified(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Ascending indices of the larger part and of the part held out, each class in proportion.

    Raises:
        UserError: a part would lack classes.
    """
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(
            range(targets.numel()), test_size=fraction, stratify=targets.numpy(), random_state=seed
        )
    except ValueError as error:
        raise UserError(f"data.validation={fraction} cannot split {targets.numel()} samples: {error}") from None
    return torch.tensor(sorted(kept)), torch.tensor(sorted(held_out))
