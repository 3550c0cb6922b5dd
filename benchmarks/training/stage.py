"""One stage of a student's training: how its loss terms are weighed, descended and summed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.config import TrainConfig
from benchmarks.training.meter import Meter
from benchmarks.training.optimizers import optimizer_of
from methods.schedules import LossWeights

Row = dict[str, float]


class Stage:
    """The main training, or the stage before it.

    Args:
        needs: parts of the teacher's features that its losses read.
        weights: of its loss terms.
        schedule: factors on the weights.
        parameters: what may learn.
        train: the protocol.
        begins: its first step, counted from the first one of the main training.
        classifies: whether the student's logits are learned in it, so that its accuracy means something.
    """

    def __init__(
        self,
        needs: frozenset[str],
        weights: Mapping[str, float],
        schedule: LossWeights,
        parameters: Iterable[Tensor],
        train: TrainConfig,
        begins: int = 0,
        classifies: bool = True,
    ) -> None:
        self.needs, self.begins = needs, begins
        self.optimizer = optimizer_of(parameters, train, tuple(weights))
        device = self.optimizer.param_groups[0]["params"][0].device
        self.schedule = schedule.to(device)
        self.meter = Meter(tuple(weights), classifies).to(device)
        self.weights = torch.tensor(list(weights.values()), device=device)
        self.history: list[Row] = []
        self.lr = train.lr
        self._rate = torch.tensor(train.lr, device=device)  # a recorded step reads it where it lies
        self._give_rate()

    def set_lr(self, lr: float) -> None:
        """Let the next steps have this learning rate."""
        self.lr = lr
        self._rate.fill_(lr)

    def _give_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate

    def advance(self, step: int) -> None:
        """Set the schedule for `step`, counted from the first one of the main training."""
        self.schedule.advance(step - self.begins)

    def descend(self, losses: Tensor) -> Tensor:
        """One step of the optimiser on the weighted sum of the unweighted terms `[terms]`.

        Returns:
            what they were multiplied by, `[terms]`.
        """
        weights = self.weights * self.schedule.factors
        self.optimizer.descend(losses, weights)
        self.schedule.observe(losses.detach())
        return weights

    def end_epoch(self) -> Row:
        """The epoch's training metrics; begins the next epoch's."""
        row = self.meter.row()
        self.meter.reset()
        return row

    def state(self) -> dict[str, Any]:
        """What a continued run needs of it."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "meter": self.meter.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._give_rate()  # as it stands: an epoch sets it as it begins
        self.schedule.load_state_dict(state["schedule"])
        self.meter.load_state_dict(state["meter"])
