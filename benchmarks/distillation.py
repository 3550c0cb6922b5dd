"""One command's work: see to the teacher, then train the students that are not complete."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import data, report, teachers
from benchmarks.artifacts import ARTIFACTS_FILE, Artifacts
from benchmarks.config import Device, RunConfig, plain
from benchmarks.console import note, warn
from benchmarks.data import EvaluationBatches, TrainBatches
from benchmarks.errors import RunFailed
from benchmarks.files import check_writable
from benchmarks.images import check_images, note_images, of_other_root
from benchmarks.models import Network
from benchmarks.recorder import Recorder
from benchmarks.results import Job, Taken, find_job, locked
from benchmarks.teachers import TeacherPlan
from benchmarks.tracking import check_tracking
from benchmarks.training.build import build_cohort, specs_of
from benchmarks.training.checkpoints import Checkpoints, delete_leftovers
from benchmarks.training.cohort import Observer, Seat
from benchmarks.training.device import device_name
from benchmarks.training.member import Member
from benchmarks.training.view_table import ViewTable
from benchmarks.variants import StudentConfig, Variant
from benchmarks.views import kept_views
from benchmarks.workbench import Workbench, open_workbench
from methods import acts

# In the place of a step where there is no checkpoint: below any, as those before the main training are negative.
NOT_BEGUN = -sys.maxsize


class Distillation:
    """Students of one pair, data set and seed, in one cohort.

    Args:
        run: resolved configuration.
        variants: what each student is trained with.
        console: where to say what happens.
        leave_taken: leave a run that another process is training to it, instead of refusing to begin.

    Raises:
        UserError: a setting or a checkpoint that cannot work, before anything is written.
    """

    def __init__(
        self, run: RunConfig, variants: Sequence[Variant], console: Console, leave_taken: bool = False
    ) -> None:
        self.run, self.console, self.leave_taken = run, console, leave_taken
        self.device = torch.device(run.train.device.value)
        self.info = data.INFO[run.data.name]
        self.specs = specs_of(run.pair, self.info)
        self.students = [variant.resolve(run, self.specs) for variant in variants]
        self.needs_teacher = any(student.has_teacher for student in self.students)
        self.plan = TeacherPlan.of(run)
        self.teacher = teachers.of_run(run) if self.needs_teacher else None

    def jobs(self) -> list[Job]:
        """Every student with its folder; to be asked when the teacher is there."""
        sha256 = self.teacher.sha256 if self.teacher else None
        return [find_job(self.run, student, sha256) for student in self.students]

    def __call__(self) -> int:
        """Do the work; returns the exit status.

        Raises:
            UserError: missing data, an output folder that cannot be written, a wrong teacher.
            RunFailed: a student failed; the others are complete.
            Interrupted: by a signal; everything is saved.
        """
        run = self.run
        known = self.jobs() if self.teacher or not self.needs_teacher else []
        complete = [job for job in known if job.result]
        if len(complete) == len(self.students):
            return self._already_complete(complete)
        check_tracking(run.tracking)
        check_writable("output", Path(run.output))
        self.announce()
        if complete:
            names = ", ".join(job.config.label for job in complete)
            self.console.print(f"complete already: {names} (rerun=true trains all again)")
            self._remark(complete)
        bench = open_workbench(run, self.console)
        self.rehearse(bench, complete)
        jobs = self.train(bench)
        self.console.print()
        report.print_results(self.console, run, [job for job in jobs if job.result])
        if failures := [f"{job.config.label}: {job.failure}" for job in jobs if job.failure]:
            raise RunFailed("\n".join(failures))
        return 0

    def train(self, bench: Workbench, observers: Sequence[Observer] = ()) -> list[Job]:
        """See to the teacher, then train the students that are not complete.

        Args:
            bench: with the run's data, on its device.
            observers: told about steps and epochs; they may stop a student.

        Returns:
            every student: with its result, or why it failed, or that another process has it, or nothing of these
            where an observer stopped it.

        Raises:
            UserError: an output folder that cannot be written, a wrong teacher.
            RunFailed: the teacher's training failed.
            Interrupted: by a signal; everything is saved.
        """
        check_images("output", Path(self.run.output), self.run.data, bench.dataset)
        if self.needs_teacher:
            self.prepare_teacher(bench)
        jobs = self.jobs()
        delete_leftovers(job.folder.path for job in jobs if job.result)
        self._train([job for job in jobs if job.result is None], bench, observers)
        return jobs

    def _already_complete(self, jobs: list[Job]) -> int:
        what = "the run is" if len(jobs) == 1 else f"all {len(jobs)} runs are"
        self.console.print(f"{what} complete already (to train again: rerun=true)")
        if root := of_other_root(Path(self.run.output), self.run.data):
            what = f"they learned from the images in {root}; those of {self.run.data.root} were not looked at"
            note(self.console, what)
        delete_leftovers(job.folder.path for job in jobs)
        self._remark(jobs)
        self.console.print()
        report.print_results(self.console, self.run, jobs)
        return 0

    def _remark(self, complete: Sequence[Job]) -> None:
        """What runs that were complete before may lack."""
        for job in complete:
            if self.run.tracking.artifacts and not (job.folder.path / ARTIFACTS_FILE).exists():
                note(self.console, f"{job.config.label} wrote no artifacts; with rerun=true another attempt does")
            if job.of_other_code:
                what = " and ".join(job.other_files) or "code"
                way_out = "; rerun=true runs the present one" if job.other_files else ""
                warn(self.console, f"{job.config.label} was run by another version of the {what}{way_out}")

    def announce(self) -> None:
        """Say what will be done, before anything is."""
        run = self.run
        names = ", ".join(student.label for student in self.students)
        what = f"{run.pair.teacher} teaches {run.pair.student} on {run.data.name}: {names}"
        self.console.print(what, style="bold")
        self.console.print(
            f"epochs: {run.train.epochs}, batch {run.train.batch_size}, {run.train.precision} on "
            f"{device_name(run.train)}, seed {run.seed}"
        )
        for student in self.students:
            self.console.print(f"{student.label}: {_settings(student)}")
        for remark in teachers.remarks(run) if self.needs_teacher else ():
            note(self.console, remark)
        if self.needs_teacher and self.teacher is None:
            self.console.print(
                f"{run.teacher.root} has no teacher for this protocol: {run.pair.teacher} is trained first "
                "(if you have one: teacher.checkpoint=FILE)"
            )
            if run.data.name != "digits" and run.train.device == Device.cpu:
                self.console.print("to see it work in minutes, without any download: data=digits")

    def rehearse(self, bench: Workbench, complete: Sequence[Job] = ()) -> None:
        """A few steps of the students that are not complete show that it can be done, and how long it takes."""
        self.console.print(bench.dataset.summary)
        done = [job.config.label for job in complete]
        students = [student for student in self.students if student.label not in done]
        bench.rehearse("distillation", students, self.specs)
        self.rehearse_teacher(bench)

    def rehearse_teacher(self, bench: Workbench) -> None:
        """A few steps of the teacher, where it is to be trained, show the same of it."""
        if self.needs_teacher and self.teacher is None:
            bench.rehearse("teacher", [self.plan.config], (self.specs[1], self.specs[1]))

    def prepare_teacher(self, bench: Workbench) -> None:
        """See to it that the teacher is there and what it is said to be."""
        if self.run.teacher.checkpoint is None:
            check_images("teacher.root", self.plan.root, self.run.data, bench.dataset)
        self.teacher = self.teacher or bench.train_teacher(self.plan)
        bench.measure(self.teacher, self.run.train)
        if self.run.teacher.checkpoint is None:
            delete_leftovers([self.plan.folder])
            note_images(self.plan.root, self.run.data, bench.dataset)
        elif self.run.data.validation:
            note(self.console, "this teacher may have seen the validation images in its training")

    def _train(self, jobs: list[Job], bench: Workbench, observers: Sequence[Observer]) -> None:
        """Train the students; results and failures go into the jobs.

        Those that share a checkpoint's step go on together, so that nobody's progress is given up for another's
        sake. A student's result is the same in any cohort.
        """
        with contextlib.ExitStack() as stack:
            for job in jobs:
                self._lock(job, stack)
            waiting = [job for job in jobs if not (job.result or job.failure or job.taken)]
            for job in waiting:
                bench.discard_damaged(Checkpoints(job.folder.path))
            for group in by_shared_step(waiting):
                self._train_cohort(group, bench, observers)

    def _lock(self, job: Job, stack: contextlib.ExitStack) -> None:
        try:
            stack.enter_context(locked(job.folder.path))
        except Taken:
            if not self.leave_taken:
                raise
            job.taken = True
        job.result = job.folder.result()  # another process may have finished it
        job.failure = None if self.run.rerun or job.result else job.folder.failure()
        if job.failure:
            warn(self.console, f"{job.config.label} failed before under this code; rerun=true tries it again")

    def _train_cohort(self, jobs: list[Job], bench: Workbench, observers: Sequence[Observer]) -> None:
        note_images(Path(self.run.output), self.run.data, bench.dataset)
        for job in jobs:
            job.folder.forget_failure()
            job.code_before = job.folder.remember_code(job.code)
            if job.code_before:
                versions = ", ".join(version["sources"] for version in job.code_before)
                what = f"{job.folder.path} was begun by another version of the code ({versions})"
                warn(self.console, f"{what}; its result says so")
        teacher = self.teacher.load(self.info.num_classes, self.device) if self.teacher else None
        measured = bench.measure(self.teacher, self.run.train) if self.teacher else None
        top1, taught = (measured.top1, measured.logits) if measured else (None, None)
        batches = bench.batches(self.students[0])
        num_steps = self.run.train.epochs * batches.steps_per_epoch
        students = [job.config for job in jobs]
        members, teaching = build_cohort(students, self.specs, batches.targets, num_steps, teacher)
        seats = [Seat(member, Checkpoints(job.folder.path)) for member, job in zip(members, jobs, strict=True)]
        artifacts = None
        if self.run.tracking.artifacts:
            artifacts = Artifacts(teaching, EvaluationBatches(bench.dataset, self.device))
        with (
            self._views(members, teacher, batches) as table,
            Recorder(self.run, jobs, members, self.teacher, top1, artifacts) as recorder,
        ):
            observers = [recorder, *observers]
            teaching = dataclasses.replace(teaching, table=table)
            bench.train(self.run.pair.name, teaching, seats, batches, self.run.train, observers, taught)
            _finish(recorder, [(job, seat) for job, seat in zip(jobs, seats, strict=True) if seat.trains])

    def _views(
        self, members: Sequence[Member], teacher: Network | None, batches: TrainBatches
    ) -> AbstractContextManager[ViewTable | None]:
        if teacher is None or self.teacher is None:
            return contextlib.nullcontext()
        kept = kept_views(self.run, members, teacher, self.teacher.sha256, batches, self.console)
        return kept or contextlib.nullcontext()


def _finish(recorder: Recorder, trained: Sequence[tuple[Job, Seat]]) -> None:
    """Write every student's result, also where that fails for another.

    Raises:
        RunFailed: the first that did, about its student.
    """
    failed = []
    for job, seat in trained:
        try:
            recorder.finish(job, seat)
        except RunFailed as error:
            error.student = job.config.label
            failed.append(error)
    if failed:
        raise failed[0]


def by_shared_step(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in groups that have a checkpoint of one step in common, the largest group first."""
    left, groups = list(jobs), []
    steps = {id(job): Checkpoints(job.folder.path).steps() or {NOT_BEGUN} for job in jobs}
    while left:
        counts = Counter(step for job in left for step in steps[id(job)])
        step = max(counts, key=lambda each: (counts[each], each))
        groups.append([job for job in left if step in steps[id(job)]])
        left = [job for job in left if step not in steps[id(job)]]
    return groups


def _settings(student: StudentConfig) -> str:
    """The resolved settings of a student's method that act, in the words of the command line."""
    settings = {
        key: value
        for key, value in plain(student.method).items()
        if key not in ("name", "label", "weights") and acts(student.method, key)
    }
    weights = {f"weights.{term}": f"{weight:g}" for term, weight in student.method.weights.items()}
    warm_up = student.loss.warm_up
    loss = {"loss.schedule": student.loss.schedule} | ({"loss.warm_up": f"{warm_up:.4g}"} if warm_up else {})
    shown = weights | settings | loss
    return "  ".join(f"{key}={str(value).replace(' ', '')}" for key, value in shown.items())
