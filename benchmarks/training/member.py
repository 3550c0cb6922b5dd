"""One student of a cohort: network, method, optimiser and the epoch's sums, in one training step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.config import TrainConfig
from benchmarks.data import Batch
from benchmarks.models import Network
from benchmarks.training.meter import Meter
from methods import Features, Method
from methods.schedules import LossWeights

Row = dict[str, float]


class Member:
    """A student in training.

    Args:
        name: its label.
        network: the student, on its device.
        method: for the same device; its connectors train in the student's optimiser.
        weights: schedule of the loss weights.
        train: the protocol.
    """

    def __init__(
        self, name: str, network: Network, method: Method[Any], weights: LossWeights, train: TrainConfig
    ) -> None:
        device = method.generator.device
        self.name, self.network, self.method = name, network, method
        self.schedule = weights.to(device)
        self.meter = Meter(method.terms).to(device)
        self.base_weights = torch.tensor([method.config.weights[term] for term in method.terms], device=device)
        self.optimizer = torch.optim.SGD(
            [*network.parameters(), *method.parameters()],
            lr=train.lr,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            fused=True,
        )
        self.history: list[Row] = []
        self.stopped = False  # an observer of the cohort has seen enough of it
        network.train()
        method.train()

    @property
    def needs(self) -> frozenset[str]:
        """What its method reads of the networks' features."""
        return self.method.needs

    def begin_epoch(self, epoch: int, lr: float) -> None:
        """Begin or continue `epoch`, counted from 0, at a learning rate."""
        self.method.epoch(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self, batch: Batch, teacher: Features | None, precision: torch.autocast, step: int) -> None:
        """One training step; nothing here reads a device value.

        Args:
            batch: images, labels, indices.
            teacher: the teacher's features of the batch; None if no method of the cohort needs them.
            precision: the networks' autocast; losses are computed in float32 outside of it.
            step: counted over the whole training.
        """
        self.schedule.advance(step)
        weights = self.base_weights * self.schedule.factors
        losses, features = self.losses(batch, teacher, precision)
        self.optimizer.zero_grad(set_to_none=True)
        (losses * weights).sum().backward()
        self.optimizer.step()
        self.schedule.observe(losses.detach())
        self.meter.update(losses.detach(), weights, features.logits.detach(), batch.targets, step)

    def losses(self, batch: Batch, teacher: Features | None, precision: torch.autocast) -> tuple[Tensor, Features]:
        """The unweighted terms, in the order of the method's `terms`, and what the student showed."""
        with precision:
            features = self.network.features(batch.images, preacts="preacts" in self.needs)
        student = features.for_loss(self.needs)
        terms = {}
        if self.method.active("ce"):
            terms["ce"] = F.cross_entropy(student.logits, batch.targets)
        if self.needs:
            assert teacher is not None
            terms |= self.method(student, teacher.for_loss(self.needs), batch.targets, batch.index)
        return torch.stack([terms[term] for term in self.method.terms]), features

    def end_epoch(self) -> Row:
        """The epoch's training metrics; begins the next epoch's."""
        row = self.meter.row()
        self.meter.reset()
        return row

    def state(self) -> dict[str, Any]:
        """Everything that a continued run needs; tensors and plain values only."""
        return {
            "network": self.network.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "meter": self.meter.state_dict(),
            "history": self.history,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.network.load_state_dict(state["network"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.meter.load_state_dict(state["meter"])
        self.history = state["history"]
