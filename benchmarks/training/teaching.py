"""A cohort's teacher at work: what it shows of a batch, computed or looked up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.data import Batch, Draw
from benchmarks.models import Network
from benchmarks.training.forward import look
from benchmarks.training.view_table import ViewTable
from methods import Features


@dataclass(frozen=True)
class Teaching:
    """What a teacher shows its students.

    Attributes:
        network: frozen, in eval mode; None if no method needs one.
        precision: its autocast.
        table: where its outputs can be looked up.
    """

    network: Network | None
    precision: torch.autocast
    table: ViewTable | None = None

    def shows(self, needs: frozenset[str], batch: Batch, compiles: bool = False) -> Features | None:
        """These parts of the teacher's features, in float32; None if that is nothing.

        They are looked up if that can be, which depends on the batch's shape and never on a value, and else
        computed, by compiled kernels if asked.
        """
        if self.network is None or not needs:
            return None
        if self.table is not None and self.table.answers(needs, batch):
            return self.table.look_up(batch)
        return self._look(self.network, needs, batch, compiles)

    @torch.no_grad()
    def _look(self, network: Network, needs: frozenset[str], batch: Batch, compiles: bool = False) -> Features:
        with self.precision:
            return look(network, batch.images, needs, compiles)

    def knows(self, needs: frozenset[str]) -> bool:
        """Whether these parts can be looked up, once it has looked ahead."""
        return self.table is not None and self.table.covers(needs)

    def look_ahead(self, draws: Sequence[Draw]) -> Iterator[None]:
        """Let the teacher look at what it has not seen of these, for its table; yields behind each batch.

        A table is of upright views: those that are turned are left to the step.
        """
        assert self.network is not None
        assert self.table is not None
        upright = [draw for draw in draws if draw.view.turns == 0]
        for batch in self.table.unseen(Draw.join(upright)) if upright else ():
            self.table.put(batch, self._look(self.network, self.table.parts, batch))
            yield
