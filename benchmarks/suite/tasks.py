"""The pieces of a grid's work, each for one process: a teacher, or the students of one pair and seed."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from benchmarks import metrics, report
from benchmarks.clock import Clock
from benchmarks.config import RunConfig
from benchmarks.console import logged
from benchmarks.distillation import Distillation
from benchmarks.errors import Interrupted, RunFailed, UserError, first_line
from benchmarks.files import LOCK, write_record
from benchmarks.results import RunFolder
from benchmarks.suite.states import LOG, PROGRESS, is_locked
from benchmarks.teachers import TeacherPlan
from benchmarks.training.cohort import Observer
from benchmarks.training.member import Member
from benchmarks.training.stage import Row
from benchmarks.variants import Variant
from benchmarks.workbench import Workbench, open_workbench

SECONDS_BETWEEN_LOOKS = 2  # at what others do, and that others can take
TEACHER = "teacher"  # its label, among those of students


@dataclass
class Outcome:
    """How a task ended.

    Attributes:
        failures: why a student, or the teacher, failed, by label.
        taken: labels of those that another process is training.
        split: why students could not go on together, and which.
    """

    failures: dict[str, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TeacherTask:
    """A teacher to be trained.

    Attributes:
        name: of the task, unique in its grid and fit for a file.
        run: one of those that need it.
    """

    name: str
    run: RunConfig

    after: None = None  # it waits for nothing

    @property
    def labels(self) -> list[str]:
        """Whom a failure concerns."""
        return [TEACHER]

    def __call__(self, place: Path) -> Outcome:
        """Train it; what it says goes to a log in `place`."""
        result, plan = Outcome(), TeacherPlan.of(self.run)
        with _logged(self, place, result) as console:
            progress = Progress(place, self.name, plan.train.batch_size)
            open_workbench(self.run, console).train_teacher(plan, [progress])
        return result


@dataclass(frozen=True)
class CohortTask:
    """Students of one pair and seed to be trained together.

    Attributes:
        name: of the task, unique in its grid and fit for a file.
        run: as `benchmarks.run` would have it.
        variants: what each student is trained with.
        after: name of their teacher's task; None where they need none, or it is there.
        wait: for processes that are training one of them, instead of leaving it to them.
        no_teacher: why there will be no teacher; None where there is one, or may be.
    """

    name: str
    run: RunConfig
    variants: tuple[Variant, ...]
    after: str | None = None
    wait: bool = False
    no_teacher: str | None = None

    @property
    def labels(self) -> list[str]:
        """Whom a failure concerns."""
        return [variant.label for variant in self.variants]

    def waiting_for(self, labels: Sequence[str]) -> CohortTask:
        """The task for some of the students, which other processes were training."""
        left = tuple(variant for variant in self.variants if variant.label in labels)
        return replace(self, variants=left, after=None, wait=True)

    def without_teacher(self, teacher: Outcome) -> CohortTask:
        """The task where the teacher's has failed: only those that need none can be trained."""
        why = f"its teacher {self.run.pair.teacher}: {teacher.failures[TEACHER]}"
        return replace(self, after=None, no_teacher=why)

    def __call__(self, place: Path) -> Outcome:
        """Train them; what is said goes to a log in `place`.

        A student that cannot take part leaves. Where the others cannot go on together (too little memory, an
        error that nobody foresaw), each half tries by itself.
        """
        result = Outcome()
        with _logged(self, place, result) as console:
            folders = self._folders(console, result)
            if not folders:
                return result
            bench = open_workbench(self.run, console)
            groups = self._free(folders, result)
            progress = Progress(place, self.name, self.run.train.batch_size)
            while groups:
                groups = self._train(groups[0], folders, bench, progress, result) + groups[1:]
        return result

    def _folders(self, console: Console, result: Outcome) -> Mapping[str, RunFolder]:
        """The folders of the students that can be trained, by label: of all, or of those that need no teacher."""
        variants, why = self.variants, self.no_teacher
        if why is None:
            try:
                return _folders_of(Distillation(self.run, variants, console))
            except UserError as error:  # it is damaged
                why = str(error)
        alone = [variant for variant in variants if not variant.has_teacher]
        result.failures |= {variant.label: why for variant in variants if variant.has_teacher}
        console.print(why)
        return _folders_of(Distillation(self.run, alone, console))

    def _free(self, folders: Mapping[str, RunFolder], result: Outcome) -> list[tuple[Variant, ...]]:
        """The students that no other process is training, as one group; none if there are none."""
        while taken := [label for label, folder in folders.items() if is_locked(folder.path / LOCK)]:
            if not self.wait:
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        result.taken += taken
        free = tuple(v for v in self.variants if v.label in folders and v.label not in taken)
        return [free] if free else []

    def _train(
        self,
        variants: tuple[Variant, ...],
        folders: Mapping[str, RunFolder],
        bench: Workbench,
        progress: Progress,
        result: Outcome,
    ) -> list[tuple[Variant, ...]]:
        """Train a group of the students; returns the groups to be tried in its stead."""
        try:
            # A rerun would train those again that were done before another failed.
            left = [variant for variant in variants if folders[variant.label].result() is None]
            if left:
                self._distil(left, bench, progress, result)
            return []
        except Interrupted:
            raise
        except (UserError, RunFailed) as error:
            failed = _concerned(variants, error.student)
            result.failures |= {variant.label: str(error) for variant in failed}
            others = tuple(variant for variant in variants if variant not in failed)
            return [others] if others else []
        except Exception as error:  # a method's bug, or out of memory
            reason = _reason(error)
            bench.console.print(traceback.format_exc())
        if len(variants) == 1:
            result.failures[variants[0].label] = reason
            return []
        result.split.append(f"{reason}; {', '.join(variant.label for variant in variants)} go on in two halves")
        bench.console.print(result.split[-1])
        middle = len(variants) // 2
        return [variants[:middle], variants[middle:]]

    def _distil(self, variants: Sequence[Variant], bench: Workbench, progress: Progress, result: Outcome) -> None:
        distillation = Distillation(self.run, variants, bench.console, leave_taken=True)
        distillation.announce()
        distillation.rehearse(bench)
        jobs = distillation.train(bench, [progress])
        result.failures |= {job.config.label: job.failure for job in jobs if job.failure}
        result.taken += [job.config.label for job in jobs if job.taken and not job.result]
        report.print_results(bench.console, self.run, [job for job in jobs if job.result])


Task = TeacherTask | CohortTask


def behind(teacher: Outcome | None, task: Task) -> Task:
    """What is to be done of a task now that its teacher's has ended, if it has one."""
    if teacher is None or not teacher.failures or isinstance(task, TeacherTask):
        return task
    return task.without_teacher(teacher)


def _folders_of(distillation: Distillation) -> dict[str, RunFolder]:
    return {job.config.label: job.folder for job in distillation.jobs()}


def _concerned(variants: Sequence[Variant], student: str | None) -> Sequence[Variant]:
    """Who fails of an error about one student or about none.

    The latter may be about the teacher: those who need none are still to be tried.
    """
    if student is not None:
        return [variant for variant in variants if variant.label == student]
    return [variant for variant in variants if variant.has_teacher] or variants


@contextmanager
def _logged(task: Task, place: Path, result: Outcome) -> Iterator[Console]:
    """The console of a task's log in `place`; an error within ends the work, and is what all of it failed of."""
    with logged(place / f"{task.name}{LOG}") as console:
        try:
            yield console
        except Interrupted:
            raise
        except Exception as error:  # a damaged teacher, say: other tasks have others
            console.print(traceback.format_exc())
            result.failures |= dict.fromkeys(task.labels, _reason(error))


def _reason(error: Exception) -> str:
    """Why a task failed. Errors that are not ours may say nothing, so their kind is named."""
    ours = isinstance(error, UserError | RunFailed)
    return str(error) if ours else f"{type(error).__name__}: {first_line(error)}"


class Progress(Observer):
    """Tells others how far a task is, in a small file."""

    def __init__(self, place: Path, name: str, batch_size: int) -> None:
        self.path, self.batch_size = place / f"{name}{PROGRESS}", batch_size
        self.clock = Clock(0, 1)
        self.top1: dict[str, float] = {}
        self.written = time.monotonic()

    def on_start(self, members: Sequence[Member], step: int, num_steps: int) -> None:
        self.clock = Clock(step, num_steps)
        self.top1 = {member.name: metrics.top1_of(member.history[-1])[1] for member in members if member.history}
        self._write()

    def on_step(self, step: int) -> None:
        self.clock.advance(step)
        if time.monotonic() - self.written > SECONDS_BETWEEN_LOOKS:
            self._write()

    def on_epoch(self, member: Member, row: Row) -> None:
        self.top1[member.name] = metrics.top1_of(row)[1]

    def _write(self) -> None:
        self.written = time.monotonic()
        content = {
            "step": self.clock.done,
            "num_steps": self.clock.total,
            "images_per_s": self.clock.images_per_s(self.batch_size),
            "seconds_left": self.clock.left,
            "top1": self.top1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        write_record(self.path, content)
