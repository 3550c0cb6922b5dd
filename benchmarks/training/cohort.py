"""The training loop: one batch, one augmentation, one teacher forward, many students."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor

from benchmarks import metrics
from benchmarks.config import LrSchedule, TrainConfig
from benchmarks.data import Draw, EvaluationBatches, TrainBatches
from benchmarks.errors import Interrupted, RunFailed, UserError
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.device import begin_peak, peak_gib, wait_for
from benchmarks.training.evaluate import figures, logits_of
from benchmarks.training.graphs import graphs_of
from benchmarks.training.launcher import Launcher
from benchmarks.training.member import Member
from benchmarks.training.signals import Interruption
from benchmarks.training.snapshot import Snapshot
from benchmarks.training.stage import Row
from benchmarks.training.step import union_of_needs, views_of
from benchmarks.training.teaching import Teaching

SECONDS_BETWEEN_CHECKPOINTS = 10
# Where writing one takes longer than this, the time between them grows as much, at most so many times: writing
# takes a hundredth of the training.
SECONDS_OF_A_CHECKPOINT, DEAREST = 0.1, 30
SAVED_AT_ONCE = 4  # each checkpoint lies in memory while it is written
STEPS_AHEAD = 64  # whose unseen views a teacher looks at together; few enough for an even progress


class Observer:
    """What may be told about the training; does nothing by itself."""

    def on_start(self, members: Sequence[Member], step: int, num_steps: int) -> None:
        """Before the first step of this process; `step` of `num_steps` are done, in the members' histories."""

    def on_step(self, step: int) -> None:
        """After training step `step`, counted from 1 over the whole training."""

    def on_epoch(self, member: Member, row: Row) -> None:
        """After an epoch of the main training, for each student; `member.stopped = True` makes it leave."""

    def on_pretraining_epoch(self, member: Member, row: Row) -> None:
        """After an epoch of the stage before it, for each student that has one."""

    def on_failure(self, member: Member, failure: str) -> None:
        """After a student has left because of what went wrong in its training."""

    def on_stop(self, member: Member) -> None:
        """After a student was stopped and has left."""

    def on_notice(self, notice: str) -> None:
        """When there is something that people should know."""


@dataclass
class Seat:
    """A member's place in a cohort: where its checkpoints are, and why it had to leave."""

    member: Member
    checkpoints: Checkpoints
    failure: str | None = None

    @property
    def trains(self) -> bool:
        """Whether it is still in the cohort, or was to the end."""
        return self.failure is None and not self.member.stopped


class Cohort:
    """Students in lockstep.

    Nothing that a student computes depends on which others are there: each has its own network, method,
    optimiser and random numbers, and the batches depend on the seed alone. Epochs and steps are counted from the
    main training's first. A stage before it ends at step 0, where the students without one join.

    Args:
        teaching: who teaches them.
        seats: the students.
        batches: training batches, on the students' device.
        evaluation: what to evaluate on.
        train: the protocol.
        observers: told about steps and epochs.
        every_steps: write checkpoints within an epoch, too, after as many steps.
        taught: the teacher's logits for what is evaluated on, `[N, K]`; None: students are not compared with it.
    """

    def __init__(
        self,
        teaching: Teaching,
        seats: Sequence[Seat],
        batches: TrainBatches,
        evaluation: EvaluationBatches,
        train: TrainConfig,
        observers: Sequence[Observer],
        every_steps: int | None = None,
        taught: Tensor | None = None,
    ) -> None:
        self.teaching, self.seats, self.batches, self.evaluation = teaching, seats, batches, evaluation
        self.train, self.observers, self.every_steps, self.taught = train, observers, every_steps, taught
        graphs = graphs_of(train, batches.device)
        self.launch = Launcher(teaching, batches, graphs, self._notice, train.compiles)
        pretraining = max(seat.member.pretraining_epochs for seat in self.seats)
        self.begins = -pretraining * batches.steps_per_epoch
        self.step = self.begins  # the next one
        self._teacher = Snapshot(teaching.network)
        self._committed, self._commit_took = time.monotonic(), 0.0  # when it ended, and for how long
        self._began = 0.0  # the epoch in progress, by `time.perf_counter`
        self._spent = 0.0  # seconds on it in an earlier process

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.train.epochs * self.batches.steps_per_epoch - self.begins

    @property
    def done(self) -> int:
        """Steps of them that are done."""
        return self.step - self.begins

    @property
    def active(self) -> list[Seat]:
        """Seats of the students that still train."""
        return [seat for seat in self.seats if seat.trains]

    def learning(self, epoch: int) -> list[Seat]:
        """Seats of those that train in `epoch`: before epoch 0, not all do."""
        return [seat for seat in self.active if epoch >= -seat.member.pretraining_epochs]

    def _resume(self) -> None:
        """Go on at the last step that all students have a checkpoint of."""
        shared = set.intersection(*(seat.checkpoints.steps() for seat in self.seats))
        if not shared:
            return
        step = max(shared)
        for seat in self.seats:
            try:
                seat.checkpoints.restore(step, self.batches.device, partial(self._restore, seat.member, step))
            except UserError as error:
                error.student = seat.member.name
                raise
        self.step = max(step, self.begins)  # where they only waited for another's pre-training, they begin

    def _restore(self, member: Member, step: int, state: dict[str, Any]) -> None:
        if step >= self.begins:  # before, the epoch in progress was another's
            self._spent = max(self._spent, state["seconds"])
        member.load(state, step)

    def run(self) -> None:
        """Train to the end, from where an earlier process stopped.

        A student whose loss is not finite leaves with `failure` set, and one that an observer stops; the others go
        on.

        Raises:
            Interrupted: by SIGINT or SIGTERM, with a checkpoint of this step written.
        """
        self._resume()
        for observer in self.observers:
            observer.on_start([seat.member for seat in self.seats], self.done, self.num_steps)
        begin_peak(self.batches.device)
        with Interruption() as interruption:
            for epoch in range(self.step // self.batches.steps_per_epoch, self.train.epochs):
                if not self.learning(epoch):  # all that the stage before the main training was for have left
                    self.step = (epoch + 1) * self.batches.steps_per_epoch
                    continue
                started, done_before = time.perf_counter(), self.step
                self._began, self._spent = started - self._spent, 0.0
                self._train_epoch(epoch, interruption)
                wait_for(self.batches.device)
                trained = time.perf_counter() - started
                self._end_epoch(epoch, trained, self.step - done_before)
                self._heed(interruption)
                if not self.active:
                    return

    def _notice(self, notice: str) -> None:
        for observer in self.observers:
            observer.on_notice(notice)

    def lr(self, epoch: int) -> float:
        """Learning rate in `epoch`; in the stage before the main training, where it is negative, the first one."""
        if self.train.schedule == LrSchedule.cosine:
            return self.train.lr * (1 + math.cos(math.pi * max(epoch, 0) / self.train.epochs)) / 2
        passed = sum(epoch >= milestone for milestone in self.train.milestones)
        return self.train.lr * self.train.decay**passed

    def _train_epoch(self, epoch: int, interruption: Interruption) -> None:
        members = [seat.member for seat in self.learning(epoch)]
        for member in members:
            member.begin_epoch(epoch, self.lr(epoch))
        start = self.step % self.batches.steps_per_epoch
        steps = self.batches.epoch(epoch, start, views_of(members))
        if self.teaching.knows(union_of_needs(member.stage(epoch) for member in members)):
            steps = self._seen(steps, interruption)
        for draws in steps:
            self.launch(members, draws, self.step)
            self.step += 1
            for observer in self.observers:
                observer.on_step(self.done)
            if self.step % self.batches.steps_per_epoch:  # a whole epoch is evaluated first
                self._heed(interruption)
                if self.every_steps and self.step % self.every_steps == 0:
                    self._commit()

    def _seen(self, steps: Iterator[tuple[Draw, ...]], interruption: Interruption) -> Iterator[tuple[Draw, ...]]:
        """These steps, behind the teacher's looks at what it has not seen of their views."""
        while ahead := list(islice(steps, STEPS_AHEAD)):
            for draws in zip(*ahead, strict=True):  # view by view
                for _ in self.teaching.look_ahead(draws):
                    self._heed(interruption)
            yield from ahead

    def _heed(self, interruption: Interruption) -> None:
        if interruption.signum is not None:
            self._commit()
            raise Interrupted(interruption.signum)

    def _end_epoch(self, epoch: int, trained: float, num_steps: int) -> None:
        for seat in self.learning(epoch):
            if failure := seat.member.failure(epoch):
                self._expel(seat, failure)
        self._check_teacher()
        told = list(self._rows(epoch))
        images = min(num_steps * self.batches.batch_size, self.batches.targets.numel())
        for seat, row in told:
            row[metrics.EPOCH_SECONDS] = time.perf_counter() - self._began
            row[metrics.IMAGES_PER_SECOND] = images / trained
            row[metrics.PEAK_MEMORY] = peak_gib(self.batches.device)
            seat.member.stage(epoch).history.append(row)
        dear = min(max(1.0, self._commit_took / SECONDS_OF_A_CHECKPOINT), DEAREST)
        if time.monotonic() - self._committed > SECONDS_BETWEEN_CHECKPOINTS * dear:
            self._commit()
        for seat, row in told:
            for observer in self.observers:
                tell = observer.on_epoch if epoch >= 0 else observer.on_pretraining_epoch
                tell(seat.member, row)
        for seat, _ in told:
            if seat.member.stopped:
                self._dismiss(seat)

    def _expel(self, seat: Seat, failure: str) -> None:
        seat.failure = failure
        seat.checkpoints.delete()  # the same would come of them again
        for observer in self.observers:
            observer.on_failure(seat.member, failure)

    def _dismiss(self, seat: Seat) -> None:
        seat.checkpoints.delete()
        for observer in self.observers:
            observer.on_stop(seat.member)

    def _rows(self, epoch: int) -> Iterator[tuple[Seat, Row]]:
        """An epoch's rows, but for those that leave: an epoch's last step leads to no other that would show it."""
        seats = self.learning(epoch)
        for seat, logits in zip(seats, self._looks([seat.member for seat in seats], epoch), strict=True):
            row = self._row(seat.member, epoch, logits)
            if math.isfinite(row.get(metrics.evaluation(self.evaluation.name, "loss"), 0.0)):
                yield seat, row
            else:
                self._expel(seat, f"the {self.evaluation.name} loss is not finite after epoch {epoch + 1}")

    def _looks(self, members: Sequence[Member], epoch: int) -> Sequence[Tensor | None]:
        """The students' logits; in the stage before the main training there is nothing to evaluate yet."""
        if epoch < 0 or not members:
            return [None] * len(members)
        return logits_of([each.classifier for each in members], self.evaluation, members[0].precision)

    def _row(self, member: Member, epoch: int, logits: Tensor | None) -> Row:
        """An epoch's row; `logits` as of `_looks`."""
        if logits is None:
            return {metrics.EPOCH: epoch + member.pretraining_epochs + 1} | member.end_epoch(epoch)
        row: Row = {metrics.EPOCH: epoch + 1} | member.end_epoch(epoch)
        terms = {term: row[metrics.train_term(term)] for term in member.method.terms}
        for name, value in member.method.diagnostics(terms).items():
            row[metrics.diagnostic(name)] = value
        taught = self.taught if member.has_teacher else None
        for name, value in figures(logits, self.evaluation.split.targets, taught).items():
            row[metrics.evaluation(self.evaluation.name, name)] = value
        return row

    def _check_teacher(self) -> None:
        """The teacher must be what it was, bit for bit."""
        if name := self._teacher.changed_entry():
            raise RunFailed(f"the teacher's {name} changed during the epoch: a method modifies its teacher")

    def _commit(self) -> None:
        started = time.monotonic()
        within = self.step % self.batches.steps_per_epoch > 0
        seconds = time.perf_counter() - self._began if within else 0.0

        def save(seat: Seat) -> None:
            seat.checkpoints.save(self.step, seat.member.state(self.step) | {"seconds": seconds})

        with ThreadPoolExecutor(SAVED_AT_ONCE) as pool:  # packing, hashing and writing let others go on
            list(pool.map(save, self.active))
        for seat in self.active:
            seat.checkpoints.delete_older(self.step)
        self._committed = time.monotonic()
        self._commit_took = self._committed - started
