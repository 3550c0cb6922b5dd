"""What a run says while it works: a line an epoch, and on a terminal a live bar below them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from benchmarks import metrics
from benchmarks.clock import Clock, duration
from benchmarks.config import TrainConfig
from benchmarks.training.cohort import Observer
from benchmarks.training.member import Member
from benchmarks.training.stage import Row

# After so much training output that is no terminal is told the time left, unless an epoch's line came before. Steps
# alone would not do: on a GPU so many are over at once, and the first take longest.
ESTIMATE_STEPS, ESTIMATE_SECONDS = 20, 5


class Display(Observer):
    """Progress of one cohort.

    Args:
        console: where to.
        what: in front of the progress bar.
        train: the protocol.
    """

    def __init__(self, console: Console, what: str, train: TrainConfig) -> None:
        self.console, self.what = console, what
        self.epochs, self.batch_size = train.epochs, train.batch_size
        self.width, self.steps_per_epoch = 0, 1
        self.pretraining_epochs = 0
        self.clock = Clock(0, 0)
        self.estimate_due = not console.is_terminal  # until an epoch's line says it
        self.progress = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", status="")

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_start(self, members: Sequence[Member], step: int, num_steps: int) -> None:
        self.width = max(cell_len(member.name) for member in members)
        self.pretraining_epochs = max(member.pretraining_epochs for member in members)
        self.steps_per_epoch = num_steps // (self.pretraining_epochs + self.epochs)
        self.clock = Clock(step, num_steps)
        self.progress.update(self.task, total=num_steps, completed=step)
        if step:
            self.console.print(f"{self.what}: continued at step {step} of {num_steps}")

    def on_step(self, step: int) -> None:
        self.clock.advance(step)
        self.progress.update(self.task, completed=step, status=self._status(step))
        steps, left = step - self.clock.first, self.clock.left
        if self.estimate_due and left and steps >= ESTIMATE_STEPS and self.clock.passed >= ESTIMATE_SECONDS:
            self.console.print(f"after {steps} steps: {duration(left)} left")
            self.estimate_due = False

    def on_epoch(self, member: Member, row: Row) -> None:
        epoch = f"epoch {row[metrics.EPOCH]:{len(str(self.epochs))}.0f}/{self.epochs}"
        accuracy = f"train {row[metrics.TRAIN_TOP1]:6.2f} %  {evaluation(row)}  "
        self._print(epoch, member.name, row, accuracy)

    def on_pretraining_epoch(self, member: Member, row: Row) -> None:
        epoch = f"pre-training {row[metrics.EPOCH]:.0f}/{member.pretraining_epochs}"
        self._print(epoch, member.name, row)

    def on_failure(self, member: Member, failure: str) -> None:
        self.console.print(f"{member.name} leaves: {failure}", style="yellow")

    def on_notice(self, notice: str) -> None:
        self.console.print(notice, style="yellow")

    def _status(self, step: int) -> str:
        left = "" if self.clock.left is None else f", {duration(self.clock.left)} left"
        epoch = min(step // self.steps_per_epoch + 1 - self.pretraining_epochs, self.epochs)
        where = f"epoch {epoch}/{self.epochs}" if epoch > 0 else "pre-training"
        return f"{where}, {self.clock.images_per_s(self.batch_size):.0f} images/s{left}"

    def _print(self, epoch: str, name: str, row: Row, accuracy: str = "") -> None:
        self.estimate_due = False
        left = "" if self.clock.left is None else f"  {duration(self.clock.left)} left"
        self.console.print(
            f"{epoch}  {set_cell_size(name, self.width)}  lr {row[metrics.LR]:<7.3g} {terms(row)}  {accuracy}"
            f"{row[metrics.EPOCH_SECONDS]:6.1f} s  {row[metrics.IMAGES_PER_SECOND]:6.0f} images/s{left}"
        )


def terms(row: Row) -> str:
    """The unweighted loss terms of an epoch."""
    prefix = metrics.train_term("")
    return "  ".join(
        f"{name.removeprefix(prefix)} {value:<9.4g}" for name, value in row.items() if name.startswith(prefix)
    )


def evaluation(row: Row) -> str:
    """Top-1 on the evaluation split."""
    split, top1 = metrics.top1_of(row)
    return f"{split} {top1:6.2f} %"
