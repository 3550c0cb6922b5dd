"""A grid's plan: what is complete, what is to be trained in which task, and about how long that takes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch

from benchmarks import data, teachers
from benchmarks.config import RunConfig
from benchmarks.files import CARD, record_at
from benchmarks.hashing import short_hash
from benchmarks.identity import file_name, identity
from benchmarks.results import Job, find_job
from benchmarks.suite import memory
from benchmarks.suite.config import SuiteConfig
from benchmarks.suite.estimate import (
    Effort,
    Rates,
    effort_of_students,
    effort_of_teacher,
    num_steps,
    part_done,
    seconds_at_its_pace,
)
from benchmarks.suite.grid import GridCohort
from benchmarks.suite.states import FOLDER, PROGRESS
from benchmarks.suite.tasks import TEACHER, CohortTask, Outcome, Task, TeacherTask
from benchmarks.teachers import TeacherPlan
from benchmarks.variants import StudentConfig, Variant


@dataclass
class Cell:
    """One run of a grid.

    Attributes:
        run: as `benchmarks.run` would have it.
        variant: what its student is trained with.
        student: the same, resolved for the networks.
        job: its place; None while its teacher is not there, whose weights belong to its identity.
        task: name of the task that trains it; None where nothing is to be done.
        failure: why it failed, now or earlier under the same code.
    """

    run: RunConfig
    variant: Variant
    student: StudentConfig
    job: Job | None = None
    task: str | None = None
    failure: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.run.pair.name} seed {self.run.seed}, {self.variant.label}"

    @property
    def id(self) -> str:
        """A hash of the student's configuration and of which teacher it is to have: known before that is there."""
        teacher = _which_teacher(self.run) if self.student.has_teacher else None
        return short_hash([identity(self.student), teacher])

    @property
    def complete(self) -> bool:
        """Whether it has a result."""
        return self.job is not None and self.job.result is not None

    def with_threads(self, threads: int) -> Cell:
        """The cell on another number of threads."""
        train = dataclasses.replace(self.run.train, threads=threads)
        student = dataclasses.replace(self.student, train=train)
        cell = Cell(dataclasses.replace(self.run, train=train), self.variant, student)
        cell.look()
        return cell

    def look(self) -> None:
        """See what has become of it."""
        if self.job is not None:
            self.job.result = self.job.folder.result()
            return
        sha256 = _teacher_sha256(self.run) if self.student.has_teacher else None
        if sha256 or not self.student.has_teacher:
            self.job = find_job(self.run, self.student, sha256)


def _cells(cohort: GridCohort) -> list[Cell]:
    """The runs of a cohort, with what is known of each."""
    pairs = zip(cohort.variants, cohort.students(), strict=True)
    cells = [Cell(cohort.run, variant, student) for variant, student in pairs]
    for cell in cells:
        cell.look()
        if cell.job is not None and not cell.complete and not cohort.run.rerun:
            cell.failure = cell.job.folder.failure()
    return cells


def _which_teacher(run: RunConfig) -> str | None:
    """What tells a run's teacher from others, there or not: a given one's weights, or its place in a store."""
    return TeacherPlan.of(run).folder.name if run.teacher.checkpoint is None else _teacher_sha256(run)


def _teacher_sha256(run: RunConfig) -> str | None:
    """SHA-256 of the weights of a run's teacher; None while it is to be trained. Its card is believed here."""
    if run.teacher.checkpoint is not None:
        return _given_sha256(run.pair.teacher, run.teacher.checkpoint, data.INFO[run.data.name].num_classes)
    plan = TeacherPlan.of(run)
    return str(teachers.read_card(plan.folder / CARD)["sha256"]) if teachers.is_stored(plan) else None


@cache
def _given_sha256(network: str, checkpoint: str, num_classes: int) -> str:
    return teachers.given(network, checkpoint, num_classes).sha256


class Plan:
    """What there is to do for a grid.

    Args:
        settings: of the command.
        cohorts: of the grid.
        sharing: tasks that share a GPU.

    Raises:
        UserError: a teacher or a result that is damaged.
    """

    def __init__(self, settings: SuiteConfig, cohorts: Sequence[GridCohort], sharing: float = 1) -> None:
        self.title, self.workers, self.cohorts = str(settings.suite or "grid"), settings.workers, cohorts
        self.output = Path(settings.output)
        self.cells = {cohort.name: _cells(cohort) for cohort in cohorts}
        self.teacher_tasks: dict[str, TeacherTask] = {}
        self.cohort_tasks: dict[str, CohortTask] = {}
        self.failed_teachers: dict[str, str] = {}  # why, by task
        for cohort in cohorts:
            self._divide(cohort, sharing)
        self.rates = Rates(self.output, Path(cohorts[0].run.teacher.root))

    def _divide(self, cohort: GridCohort, sharing: float) -> None:
        """Make tasks of what is left to do of a cohort."""
        todo = [cell for cell in self.cells[cohort.name] if not cell.complete and cell.failure is None]
        room = memory.room(torch.device(cohort.run.train.device.value), sharing)
        size = memory.group_size([cell.student for cell in todo], room)
        groups = [todo[start : start + size] for start in range(0, len(todo), max(size, 1))]
        for k, group in enumerate(groups, start=1):
            name = file_name(cohort.name) + (f"-{k}" if len(groups) > 1 else "")
            after = self._teacher_task(cohort.run) if any(cell.student.has_teacher for cell in group) else None
            self.cohort_tasks[name] = CohortTask(name, cohort.run, tuple(cell.variant for cell in group), after)
            for cell in group:
                cell.task = name

    def _teacher_task(self, run: RunConfig) -> str | None:
        """Name of the task that trains a run's teacher; None where it is there."""
        if _teacher_sha256(run):
            return None
        name = task_of_teacher(TeacherPlan.of(run))
        self.teacher_tasks.setdefault(name, TeacherTask(name, run))
        return name

    @property
    def tasks(self) -> list[Task]:
        """Everything to be done, teachers first."""
        return [*self.teacher_tasks.values(), *self.cohort_tasks.values()]

    def all_cells(self) -> Iterator[Cell]:
        """Every run that is possible."""
        for cells in self.cells.values():
            yield from cells

    def other_threads(self) -> int | None:
        """Another number of threads with which runs of this grid are complete: part of what a run is."""
        for cells in self.cells.values():
            cell = next((cell for cell in cells if cell.job and not cell.complete), None)
            if cell is None:
                continue
            for threads in range(1, (os.cpu_count() or 1) + 1):
                if cell.with_threads(threads).complete:
                    return threads
        return None

    def effort(self, task: Task) -> Effort:
        """What a task has to compute."""
        if isinstance(task, TeacherTask):
            return effort_of_teacher(TeacherPlan.of(task.run))
        return effort_of_students([cell.student for cell in self._of_task(task)])

    def seconds(self, task: Task) -> float | None:
        """About how long what is left of a task takes; None where nothing like it was measured."""
        cells, teacher = self._of_task(task), TeacherPlan.of(task.run)
        if isinstance(task, TeacherTask):
            rate, train = None, teacher.train
            folders: list[Path | None] = [teacher.folder]
        else:
            rate, train = self.rates.of_students(cells[0].student), task.run.train
            folders = [cell.job.folder.path if cell.job else None for cell in cells]
        before = record_at(self.place / f"{task.name}{PROGRESS}")
        whole = None if rate else seconds_at_its_pace(before, train.batch_size)
        if whole is None and (rate := rate or self.rates.of_teacher(teacher)):
            whole = self.effort(task).macs / rate
        return None if whole is None else whole * (1 - part_done(folders, num_steps(train, task.run.data)))

    def _of_task(self, task: Task) -> list[Cell]:
        return [cell for cell in self.all_cells() if cell.task == task.name]

    def note(self, task: Task, outcome: Outcome) -> None:
        """Take in how a task ended."""
        if isinstance(task, TeacherTask) and outcome.failures:
            self.failed_teachers[task.name] = outcome.failures[TEACHER]
        after = {name for name, other in self.cohort_tasks.items() if task.name in (name, other.after)}
        for cell in self.all_cells():
            if cell.task in after:
                cell.look()
            if cell.task == task.name and not cell.complete:
                cell.failure = outcome.failures.get(cell.variant.label, cell.failure)

    @cached_property
    def place(self) -> Path:
        """Folder of the written plan, of the tasks' logs and of their progress."""
        return self.output / FOLDER / short_hash(sorted(cell.id for cell in self.all_cells()))


def task_of_teacher(plan: TeacherPlan) -> str:
    """Name of the task that trains a teacher."""
    return file_name(f"teacher {plan.network} seed {plan.seed} {plan.folder.name.rpartition('-')[2]}")
