"""A command's data, device and console, and what every training on them needs."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks import data, metrics, teachers
from benchmarks.clock import duration, milliseconds
from benchmarks.config import CheckpointConfig, RunConfig, TrainConfig
from benchmarks.console import warn
from benchmarks.data import DataSet, EvaluationBatches, TrainBatches
from benchmarks.display import Display
from benchmarks.errors import Interrupted, RunFailed, UserError, first_line, require
from benchmarks.images import check_images, note_images
from benchmarks.results import Taken, locked
from benchmarks.teachers import Teacher, TeacherPlan
from benchmarks.training.build import build_member, feature_spec
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.cohort import Cohort, Observer, Seat
from benchmarks.training.contract import rehearse
from benchmarks.training.device import autocast
from benchmarks.training.evaluate import figures, logits_of
from benchmarks.training.teaching import Teaching
from benchmarks.variants import Specs, StudentConfig

# glibc's numbers for what `mallopt` sets (malloc.h)
MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_THRESHOLD = -1, -3


def prepare_torch(train: TrainConfig) -> None:
    """Threads, memory, and determinism where it is asked for, of this process."""
    torch.set_num_threads(train.threads)
    _keep_freed_memory()
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # In a grid, a run before may have asked for it; torch imports its compiler to set it.
    if train.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(train.deterministic)


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed.

    A step allocates the same maps as the one before; by default each goes back to the kernel, which then hands out
    every page anew, zeroed: a tenth of a step on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MALLOPT_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
    libc.mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)


def _out_of_memory(error: BaseException) -> bool:
    """Whether it says so; on a CPU torch does with a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


@dataclass(frozen=True)
class Measured:
    """What a teacher reaches on the evaluation split.

    Attributes:
        top1: in percent.
        logits: for each of its images, `[N, K]`.
    """

    top1: float
    logits: Tensor


class Workbench:
    """Where cohorts are trained.

    Args:
        dataset: loaded.
        device: of all training here.
        console: where to say what happens.
        checkpoint: when training is saved.
    """

    def __init__(
        self, dataset: DataSet, device: torch.device, console: Console, checkpoint: CheckpointConfig
    ) -> None:
        self.dataset, self.device, self.console, self.checkpoint = dataset, device, console, checkpoint
        self._measured: dict[tuple[str, str], Measured] = {}  # by the SHA-256 of a teacher's weights and precision

    def batches(self, config: StudentConfig) -> TrainBatches:
        """The batches of a student's seed."""
        train, size = config.train, len(self.dataset.train)
        require(
            train.batch_size <= size, f"train.batch_size={train.batch_size} is more than the {size} training images"
        )
        return TrainBatches(self.dataset, train.batch_size, config.seed, self.device, train.max_steps)

    def rehearse(self, what: str, students: Sequence[StudentConfig], specs: Specs) -> None:
        """Check that a training can be done, and say how long it takes without evaluations.

        Raises:
            UserError: a method cannot serve the pair, or memory is too small.
        """
        batches, epochs = self.batches(students[0]), students[0].train.epochs
        if students[0].train.compiles:
            long = "minutes" if len(students) > 1 else "half a minute or more"
            self.console.print(f"{what}: compiling kernels, which takes {long} the first time")
        steps = batches.steps_per_epoch
        try:
            pace = rehearse(students, specs, batches, epochs * steps, partial(warn, self.console))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            raise UserError(f"{what}: this machine has too little memory: {first_line(error)}") from None
        self.console.print(
            f"{what}: {epochs} × {steps} steps of {milliseconds(pace.main)} on this machine, about "
            f"{duration(epochs * steps * pace.main)} plus evaluation"
        )
        if pace.pretraining_epochs:
            self.console.print(
                f"before it, pre-training: {pace.pretraining_epochs} × {steps} steps of "
                f"{milliseconds(pace.pretraining)}, about "
                f"{duration(pace.pretraining_epochs * steps * pace.pretraining)}"
            )

    def train(
        self,
        what: str,
        teaching: Teaching,
        seats: Sequence[Seat],
        batches: TrainBatches,
        train: TrainConfig,
        observers: Sequence[Observer] = (),
        taught: Tensor | None = None,
    ) -> None:
        """Train a cohort to the end, displayed; arguments as of `Cohort`.

        Raises:
            Interrupted: by a signal; everything is saved.
        """
        evaluation = EvaluationBatches(self.dataset, self.device)
        with Display(self.console, what, train) as display:
            every_steps = self.checkpoint.every_steps
            observers = [*observers, display]
            cohort = Cohort(teaching, seats, batches, evaluation, train, observers, every_steps, taught)
            try:
                cohort.run()
            except Interrupted:
                self.console.print(f"interrupted at step {cohort.done} and saved: the same command continues")
                raise

    def discard_damaged(self, checkpoints: Checkpoints) -> None:
        """Say which checkpoints are damaged and delete them: what is left is continued from."""
        for path in checkpoints.discard_damaged():
            left = checkpoints.newest()
            instead = f"{left.name} is used instead" if left else "the training begins anew"
            warn(self.console, f"{path} was damaged (its checksum does not match) and has been deleted; {instead}")

    def measure(self, teacher: Teacher, train: TrainConfig) -> Measured:
        """A teacher on the evaluation split; at first it is measured, and compared with what is claimed for it.

        Raises:
            UserError: it is far below.
        """
        key = teacher.sha256, train.precision
        if key in self._measured:
            return self._measured[key]
        network = teacher.load(self.dataset.num_classes, self.device)
        evaluation = EvaluationBatches(self.dataset, self.device)
        (logits,) = logits_of([network], evaluation, autocast(train, self.device))
        top1 = figures(logits, evaluation.split.targets)["top1"]
        self.console.print(f"teacher {teacher.network} from {teacher.source}: {top1:.2f} % {evaluation.name} top-1")
        teachers.check_accuracy(teacher, top1, evaluation.name)
        if warning := teachers.at_chance(teacher, top1, self.dataset.num_classes):
            warn(self.console, warning)
        self._measured[key] = Measured(top1, logits)
        return self._measured[key]

    def lock(self, plan: TeacherPlan) -> AbstractContextManager[Any]:
        """Held while a teacher is trained and stored. That another process holds it is said, and waited for."""
        try:
            return locked(plan.folder)
        except Taken:
            self.console.print(f"another process is training the teacher in {plan.folder}: waiting for its end")
            return locked(plan.folder, wait=True)

    def train_teacher(self, plan: TeacherPlan, observers: Sequence[Observer] = ()) -> Teacher:
        """Train the teacher that the store lacks, or continue to, and store it.

        Args:
            plan: which one it is.
            observers: told about steps and epochs.

        Raises:
            RunFailed: its loss is not finite.
            Interrupted: by a signal; everything is saved.
        """
        config = plan.config
        spec = feature_spec(plan.network, data.INFO[config.data.name])
        with self.lock(plan):
            check_images("teacher.root", plan.root, plan.data, self.dataset)
            if found := teachers.find(plan):  # another process has trained it by now
                return found
            batches = self.batches(config)
            num_steps = config.train.epochs * batches.steps_per_epoch
            seat = Seat(build_member(config, (spec, spec), batches.targets, num_steps), Checkpoints(plan.folder))
            self.discard_damaged(seat.checkpoints)
            note_images(plan.root, plan.data, self.dataset)
            alone = Teaching(None, autocast(config.train, self.device))
            self.train(f"teacher {plan.network}", alone, [seat], batches, config.train, observers)
            if seat.failure:
                raise RunFailed(f"teacher {plan.network}: {seat.failure}")
            history = seat.member.history
            top1 = history[-1][metrics.evaluation(plan.data.split, "top1")]
            teacher = teachers.store(plan, seat.member.network, top1, "trained here", history)
            seat.checkpoints.delete()
            return teacher


def open_workbench(run: RunConfig, console: Console) -> Workbench:
    """A run's data on its device, in a process made ready for it."""
    prepare_torch(run.train)
    return Workbench(data.load(run.data), torch.device(run.train.device.value), console, run.checkpoint)
