"""One student of a cohort: network and method, in one training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import metrics
from benchmarks.config import Optimizer, TrainConfig
from benchmarks.data import Batch, View
from benchmarks.models import Network
from benchmarks.training.compiling import NOTHING, Compiled
from benchmarks.training.device import autocast
from benchmarks.training.forward import judge, look
from benchmarks.training.stage import Row, Stage
from methods import Features, Method
from methods.schedules import LossConfig, LossWeights, Schedule

# The teacher's features of a batch, None if no method of the cohort needs them. They are asked for as late as can
# be: until then the teacher may be looking, beside the student.
Taught = Callable[[], Features | None]


class Classifier(nn.Module):
    """A student as it is evaluated: its network, and what its method makes of the features."""

    def __init__(self, network: Network, method: Method[Any]) -> None:
        super().__init__()
        self.network, self.method = network, method

    def features(self, images: Tensor, needs: frozenset[str] | None = None, compiles: bool = False) -> Features:
        """What the student shows of normalised images `[B, 3, H, W]`, in float32.

        The network computes in the precision around the call, the method always in float32.

        Args:
            images: normalised.
            needs: which parts besides logits and embedding; default: those that its logits depend on.
            compiles: let the network compute by compiled kernels.
        """
        if needs is None:
            needs = self.method.needs if self.method.predicts else frozenset()
        features = look(self.network, images, needs, compiles)
        with torch.autocast(images.device.type, enabled=False):
            return self.method.predict(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        return self.features(images).logits


class Member:
    """A student in training.

    Its steps and epochs are counted from the main training's first: those before it are negative.

    Args:
        name: its label.
        network: the student, on its device.
        method: for the same device; its connectors train in the student's optimiser.
        schedule: of the loss weights, over the main training.
        train: the protocol.
    """

    def __init__(
        self, name: str, network: Network, method: Method[Any], schedule: LossWeights, train: TrainConfig
    ) -> None:
        self.name, self.network, self.method = name, network, method
        self.precision = autocast(train, next(network.parameters()).device)  # the network's; losses are in float32
        self.classifier = Classifier(network, method).train()
        self.epoch, self.decay = 0, train.decay
        self.stopped = False  # an observer of the cohort has seen enough of it
        parameters = [each for each in self.classifier.parameters() if each.requires_grad]
        base = {term: method.config.weights[term] for term in method.terms}
        self.own_needs, needs = method.needs_of_both
        self.main = Stage(needs, base, schedule, parameters, train)
        self.pretraining: Stage | None = None
        self.pretraining_epochs = 0
        if stage := method.pretraining:
            self.pretraining_epochs = max(1, round(stage.part * train.epochs))
            num_steps = self.pretraining_epochs * (schedule.num_steps // train.epochs)
            base = dict.fromkeys(stage.terms, 1.0)
            fixed = LossWeights(LossConfig(schedule=Schedule.fixed, warm_up=0.0), stage.terms, num_steps)
            plain = dataclasses.replace(train, optimizer=Optimizer.sgd)  # it has no task to be kept apart from
            self.pretraining = Stage(stage.needs, base, fixed, parameters, plain, -num_steps, classifies=False)

    def stage(self, when: int) -> Stage:
        """The stage that an epoch or a step belongs to."""
        return self.pretraining if when < 0 and self.pretraining else self.main

    @property
    def needs(self) -> frozenset[str]:
        """What its method reads of the teacher's features in the main training; of its own, `own_needs`."""
        return self.main.needs

    @property
    def has_teacher(self) -> bool:
        """Whether it learns from a teacher, be it only in the stage before the main training."""
        return bool(self.needs) or self.pretraining is not None

    @property
    def history(self) -> list[Row]:
        """A row for each epoch of the main training."""
        return self.main.history

    @property
    def pretraining_history(self) -> list[Row]:
        """A row for each epoch of the stage before the main training."""
        return self.pretraining.history if self.pretraining else []

    @property
    def views(self) -> tuple[View, ...]:
        """Those of each image in its batches."""
        return tuple(View(k, k if self.method.turned else 0) for k in range(self.method.num_views))

    @property
    def reaches_all(self) -> bool:
        """Whether the main training's losses reach all of the network, so that it may compute by compiled kernels.

        Where no loss reaches, torch's own give no gradient, but compiled ones zeros, and weight decay acts.
        """
        to_logits = self.method.active("ce") or self.own_needs == {"logits"}
        return to_logits and not self.method.predicts

    def begin_epoch(self, epoch: int, lr: float) -> None:
        """Begin or continue an epoch at a learning rate."""
        self.epoch = epoch
        self.method.epoch(epoch)
        self.stage(epoch).set_lr(self._pretraining_lr(epoch, lr) if epoch < 0 else lr)

    def _pretraining_lr(self, epoch: int, lr: float) -> float:
        stage = self.method.pretraining
        assert stage is not None
        done = 1 + epoch / self.pretraining_epochs
        passed = sum(done >= milestone for milestone in stage.milestones)
        return (stage.lr or lr) * self.decay**passed

    def advance(self, step: int) -> None:
        """Make ready for a step: what Python decides of it, whose results lie on the device."""
        self.stage(step).advance(step)

    def decided(self, step: int) -> tuple[object, ...]:
        """All that Python decides of a step, beside its samples and `advance`: equal where steps are alike."""
        stage = self.stage(step)
        return id(stage), self.epoch if self.method.heeds_epochs else None

    def step(self, batch: Batch, taught: Taught, step: int, compiled: Compiled = NOTHING) -> None:
        """One training step, once `advance` was called; it reads no device value and is recorded as it is.

        Args:
            batch: images, labels, indices; with several views, one behind the other.
            taught: gives the teacher's features of the batch.
            step: which one; only its stage matters here.
            compiled: what may compute by compiled kernels, in the main training.
        """
        stage = self.stage(step)
        losses, logits = self.losses(batch, taught, step, compiled)
        weights = stage.descend(losses)
        stage.meter.update(losses.detach(), weights, logits, self.method.labelled(batch.targets))

    def losses(
        self, batch: Batch, taught: Taught, step: int = 0, compiled: Compiled = NOTHING
    ) -> tuple[Tensor, Tensor | None]:
        """The unweighted terms of a step's stage, in their order, and the logits that they judge, if any."""
        if step < 0:
            return self._pretraining_losses(batch, taught), None
        student, teacher = self.judged(batch.images, taught, compiled)
        losses = judge(self.method, student, teacher, batch.targets, batch.index, self.name in compiled.losses)
        return losses, self.method.labelled(student.logits.detach())

    def judged(
        self, images: Tensor, taught: Taught, compiled: Compiled = NOTHING
    ) -> tuple[Features, Features | None]:
        """What its method judges: the features of student and teacher that it needs, in float32."""
        with self.precision:
            student = self.classifier.features(images, self.own_needs, compiled.networks and self.reaches_all)
        if not self.needs:
            return student, None
        teacher = taught()
        assert teacher is not None
        return student, teacher.for_loss(self.needs)

    def _pretraining_losses(self, batch: Batch, taught: Taught) -> Tensor:
        stage = self.method.pretraining
        assert stage is not None
        with self.precision:
            student = self.classifier.features(batch.images, stage.needs) if stage.student else None
        teacher = taught()
        assert teacher is not None
        terms = self.method.pretrain(student, teacher.for_loss(stage.needs), batch.targets, batch.index)
        return torch.stack([terms[term] for term in stage.terms])

    def failure(self, epoch: int) -> str | None:
        """What went wrong in the stage of `epoch`, None while all is well. Reads the device."""
        failure = self.stage(epoch).meter.failure()
        return f"{failure} of the pre-training" if failure and epoch < 0 else failure

    def end_epoch(self, epoch: int) -> Row:
        """The epoch's learning rate and training metrics; begins the next epoch's."""
        stage = self.stage(epoch)
        return {metrics.LR: stage.lr} | stage.end_epoch()

    def state(self, step: int) -> dict[str, Any]:
        """Everything that a run continued at `step` needs; tensors and plain values only."""
        state = {
            "network": self.network.state_dict(),
            "method": self.method.state_dict(),
            "history": self.main.history,
        }
        if self.pretraining is not None:
            state["pretraining"] = self.pretraining.history
        return state | self.stage(step).state()

    def load(self, state: dict[str, Any], step: int) -> None:
        """Continue at `step` from `state`."""
        self.network.load_state_dict(state["network"])
        self.method.load_state_dict(state["method"])
        self.main.history = state["history"]
        if self.pretraining is not None:
            self.pretraining.history = state["pretraining"]
        self.stage(step).load(state)
