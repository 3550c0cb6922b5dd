"""A network's state as it was, to see whether anything has changed it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.models import Network


def copy_state(network: Network) -> dict[str, Tensor]:
    """A network's state as it is now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed_entry(network: Network, before: dict[str, Tensor]) -> str | None:
    """An entry of the state that is no longer what it was, bit for bit; None if all are."""
    state = network.state_dict()
    return next((name for name, tensor in before.items() if not torch.equal(state[name], tensor)), None)
