"""Students that train step by step on images of noise under a frozen teacher, all of them a resnet8."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from helpers import info
from torch.utils._python_dispatch import TorchDispatchMode

import methods
from benchmarks import models
from benchmarks.config import DataConfig, Device, PairConfig, Precision, TrainConfig
from benchmarks.data import Augmentation, DataSet, EvaluationBatches, Split, TrainBatches
from benchmarks.training.build import build_member, feature_spec, frozen
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.cohort import Cohort, Observer, Seat
from benchmarks.training.device import autocast
from benchmarks.training.graphs import Graphs
from benchmarks.training.launcher import Launcher
from benchmarks.training.member import Member
from benchmarks.training.step import views_of
from benchmarks.training.teaching import Teaching
from benchmarks.training.view_table import ViewTable
from benchmarks.variants import StudentConfig
from methods import FeatureSpec
from methods.schedules import LossConfig, Schedule

CPU = torch.device("cpu")


class Presence(TorchDispatchMode):
    """Does nothing. That a mode is there changes how autograd lays out a sum of gradients, and so a last bit."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def noise(num_data: int, classes: int, seed: int) -> Split:
    """Images of noise with labels in turn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num_data, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(num_data) % classes)


@dataclass(frozen=True)
class School:
    """What students have in common.

    Attributes:
        train: how they are trained.
        num_train: images that they are trained on; 23 others evaluate them.
        classes: of the images.
    """

    train: TrainConfig
    num_train: int
    classes: int

    @cached_property
    def data(self) -> DataSet:
        splits = noise(self.num_train, self.classes, seed=0), noise(23, self.classes, seed=1)
        return DataSet(*splits, "test", self.classes, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), Augmentation(4, True))

    @cached_property
    def specs(self) -> tuple[FeatureSpec, FeatureSpec]:
        return (feature_spec("resnet8", info(self.classes)),) * 2

    def batches(self) -> TrainBatches:
        return TrainBatches(self.data, self.train.batch_size, 0, CPU)

    def teacher(self) -> models.Network:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return frozen(models.create("resnet8", self.classes))

    def teaching(self, teacher: models.Network | None = None, table: ViewTable | None = None) -> Teaching:
        """The teacher, or another, at work."""
        return Teaching(teacher or self.teacher(), autocast(self.train, CPU), table)

    def member(
        self,
        name: str,
        schedule: Schedule = Schedule.default,
        train: TrainConfig | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Member:
        """A student before its first step."""
        train = train or self.train
        config = methods.configure(name, **settings).resolve(*self.specs)
        loss = dataclasses.replace(LossConfig(), schedule=schedule, windows=5).resolve(config)
        student = StudentConfig(
            config, PairConfig("pair", "resnet8", "resnet8"), DataConfig("digits"), seed, train, loss
        )
        num_steps = train.epochs * self.batches().steps_per_epoch
        return build_member(student, self.specs, self.data.train.targets, num_steps, self.teacher())

    def cohort(
        self,
        names: Iterable[str],
        folder: Path,
        teacher: models.Network | None = None,
        observers: Sequence[Observer] = (),
    ) -> Cohort:
        """Students before their training, whose checkpoints lie in a folder."""
        seats = [Seat(self.member(name), Checkpoints(folder / name)) for name in names]
        evaluation = EvaluationBatches(self.data, CPU)
        return Cohort(self.teaching(teacher), seats, self.batches(), evaluation, self.train, observers)

    def launcher(
        self, graphs: Graphs | None = None, said: list[str] | None = None, table: ViewTable | None = None
    ) -> Launcher:
        """What does their steps; notes what it says in `said`."""
        say = ([] if said is None else said).append
        return Launcher(self.teaching(table=table), self.batches(), graphs, say)

    def teach(
        self,
        members: Sequence[Member],
        launch: Callable[..., object],
        epochs: Iterable[int] = range(2),
    ) -> None:
        """Train for these epochs; the rate falls before epoch 1."""
        source = self.batches()
        for epoch in epochs:
            learning = [each for each in members if epoch >= -each.pretraining_epochs]
            for each in learning:
                each.begin_epoch(epoch, 0.05 if epoch < 1 else 0.005)
            for step, draws in enumerate(source.epoch(epoch, views=views_of(learning))):
                with Presence():
                    launch(learning, draws, epoch * source.steps_per_epoch + step)


TRAIN = TrainConfig(
    epochs=2, batch_size=4, lr=0.05, milestones=[1], precision=Precision.fp32, device=Device.cpu, threads=1
)
WHOLE = 4  # steps of an epoch with a whole batch; a short one follows
SHORT = School(TRAIN, num_train=4 * WHOLE + 3, classes=5)
batches, launcher, member, train = SHORT.batches, SHORT.launcher, SHORT.member, SHORT.teach
teacher, teaching = SHORT.teacher, SHORT.teaching
