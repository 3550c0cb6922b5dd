"""A network's state as it was, to see whether anything has changed it."""

from __future__ import annotations

import torch

from benchmarks.models import Network


class Snapshot:
    """A network with its state as it is now; of no network, nothing changes."""

    def __init__(self, network: Network | None) -> None:
        self.network = network
        self._before = {} if network is None else {k: each.clone() for k, each in network.state_dict().items()}

    def changed_entry(self) -> str | None:
        """An entry of the state that is no longer what it was, bit for bit; None if all are."""
        now = {} if self.network is None else self.network.state_dict()
        return next((name for name, each in self._before.items() if not torch.equal(now[name], each)), None)
