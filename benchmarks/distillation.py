"""One command's work: see to the teacher, then train the students that are not complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import data, report, teachers
from benchmarks.config import RunConfig
from benchmarks.data import DataSet, EvaluationBatches, TrainBatches
from benchmarks.display import Display, duration
from benchmarks.errors import Interrupted, RunFailed, UserError
from benchmarks.models import Network
from benchmarks.protocol import StudentConfig, plain
from benchmarks.recorder import Recorder
from benchmarks.results import Job, RunFolder, run_folder
from benchmarks.teachers import Teacher
from benchmarks.training.build import build_member, feature_spec
from benchmarks.training.cohort import Cohort, Observer, Seat, autocast
from benchmarks.training.contract import rehearse
from benchmarks.training.evaluate import evaluate
from benchmarks.training.progress import Checkpoints
from methods import InvalidSetting, MethodConfig, get

LONG = 1800  # seconds from which the quick way is worth a mention


class Distillation:
    """Students of one pair, data set and seed, in one cohort.

    Args:
        run: resolved configuration.
        methods: of the students, not yet resolved for the networks.
        console: where to say what happens.

    Raises:
        UserError: a setting or a checkpoint that cannot work, before anything is written.
    """

    def __init__(self, run: RunConfig, methods: Sequence[MethodConfig], console: Console) -> None:
        self.run, self.console = run, console
        self.device = torch.device(run.train.device.value)
        self.num_classes = data.INFO[run.data.name].num_classes
        self.specs = (
            feature_spec(run.pair.student, self.num_classes),
            feature_spec(run.pair.teacher, self.num_classes),
        )
        self.students = [self._student(method) for method in methods]
        self.needs_teacher = any(get(student.method.name).needs for student in self.students)
        self.teacher = teachers.find(run) if self.needs_teacher else None
        if self.teacher:
            self.teacher.load(self.num_classes, torch.device("cpu"))  # refuses another architecture

    def _student(self, method: MethodConfig) -> StudentConfig:
        run = self.run
        try:
            method = method.resolve(*self.specs)
            loss = run.loss.resolve(method)
        except InvalidSetting as error:
            raise UserError(f"method {method.name} on {run.pair.name}: {error}") from None
        return StudentConfig(method, run.pair, run.data, run.seed, run.train, loss)

    def jobs(self) -> list[Job]:
        """Every student with its folder; to be asked when the teacher is there."""
        found = []
        for student in self.students:
            sha256 = self.teacher.sha256 if self.teacher and get(student.method.name).needs else None
            folder = run_folder(Path(self.run.output), student, sha256, rerun=self.run.rerun)
            found.append(Job(student, folder, folder.result()))
        return found

    def __call__(self) -> int:
        """Do the work; returns the exit status.

        Raises:
            UserError: missing data, an output folder that cannot be written, a wrong teacher.
            RunFailed: a student failed; the others are complete.
            Interrupted: by a signal; everything is saved.
        """
        run = self.run
        if (self.teacher or not self.needs_teacher) and all(job.result for job in self.jobs()):
            return self._already_complete()
        check_writable(Path(run.output))
        dataset = data.load(run.data.name, Path(run.data.root), Path(run.data.cache), run.data.validation)
        self._announce(dataset)
        teacher_top1 = self._prepare_teacher(dataset) if self.needs_teacher else None
        jobs = self.jobs()
        failures = self._train([job for job in jobs if job.result is None], dataset, teacher_top1)
        self.console.print()
        report.print_results(self.console, run, [job for job in jobs if job.result], dataset.evaluation_name)
        if failures:
            raise RunFailed("\n".join(failures))
        return 0

    def _already_complete(self) -> int:
        jobs = self.jobs()
        what = "the run is" if len(jobs) == 1 else f"all {len(jobs)} runs are"
        self.console.print(f"{what} complete already (rerun=true runs again)\n")
        report.print_results(self.console, self.run, jobs, "val" if self.run.data.validation else "test")
        return 0

    def _announce(self, dataset: DataSet) -> None:
        """Say what will be done, after a rehearsal that shows that it can be, and how long it takes."""
        run, console = self.run, self.console
        names = ", ".join(student.label for student in self.students)
        where = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"{run.train.threads} CPU threads"
        )
        console.print(f"[bold]{run.pair.teacher} teaches {run.pair.student} on {run.data.name}[/]: {names}")
        console.print(
            f"{len(dataset.train):,} training images, epochs: {run.train.epochs}, batch {run.train.batch_size}, "
            f"{run.train.precision} on {where}, seed {run.seed}"
        )
        for student in self.students:
            hidden = {"name", "label"}
            settings = {key: value for key, value in plain(student.method).items() if key not in hidden}
            shown = "  ".join(f"{key}={value}" for key, value in settings.items())
            console.print(f"{student.label}: {shown}  loss.schedule={student.loss.schedule}", markup=False)
        if self._announce_times(dataset) > LONG and run.data.name != "digits":
            console.print("[yellow]data=digits is the quick way: minutes, without any download[/]")

    def _announce_times(self, dataset: DataSet) -> float:
        """Rehearse what is to come; returns the seconds it will take, evaluations left out."""
        run = self.run
        seconds = self._rehearse(
            "distillation", self.students, self.specs, self._batches(dataset, self.students[0])
        )
        if self.needs_teacher and self.teacher is None:
            config = teachers.teacher_config(run)
            self.console.print(
                f"no teacher in {run.teacher.root} for this protocol: {run.pair.teacher} is trained first "
                "(teacher.checkpoint=FILE takes one that you have)"
            )
            specs = (self.specs[1], self.specs[1])
            seconds += self._rehearse("teacher", [config], specs, self._batches(dataset, config))
        return seconds

    def _rehearse(
        self, what: str, students: Sequence[StudentConfig], specs: teachers.Specs, batches: TrainBatches
    ) -> float:
        epochs = students[0].train.epochs
        num_steps = epochs * batches.steps_per_epoch
        step = rehearse(students, specs, batches, num_steps)
        self.console.print(
            f"{what}: {epochs} × {batches.steps_per_epoch} steps of {step * 1000:.0f} ms on this machine, about "
            f"{duration(num_steps * step)} and the evaluations"
        )
        return num_steps * step

    def _batches(self, dataset: DataSet, config: StudentConfig) -> TrainBatches:
        train = config.train
        return TrainBatches(dataset, train.batch_size, config.seed, self.device, train.max_steps)

    def _prepare_teacher(self, dataset: DataSet) -> float:
        """See to it that the teacher is there and what it is said to be; its top-1."""
        if self.teacher is None:
            self.teacher = self._train_teacher(dataset)
        network = self.teacher.load(self.num_classes, self.device)
        evaluation = EvaluationBatches(dataset, self.device)
        top1 = evaluate(network, evaluation, autocast(self.run.train, self.device))["top1"]
        self.console.print(
            f"teacher {self.teacher.network} from {self.teacher.source}: {top1:.2f} % {evaluation.name} top-1"
        )
        teachers.check_accuracy(self.teacher, top1, evaluation.name)
        if self.run.teacher.checkpoint is not None and evaluation.name == "val":
            self.console.print("[yellow]note: this teacher may have seen the validation images in its training[/]")
        return top1

    def _train_teacher(self, dataset: DataSet) -> Teacher:
        config = teachers.teacher_config(self.run)
        place = RunFolder(teachers.folder(self.run), "teacher", 0)
        with place.lock():
            if found := teachers.find(self.run):  # another process has trained it by now
                return found
            batches = self._batches(dataset, config)
            num_steps = config.train.epochs * batches.steps_per_epoch
            member = build_member(config, (self.specs[1], self.specs[1]), batches.targets, num_steps)
            seat = Seat(member, Checkpoints(place.path))
            self._run_cohort(f"teacher {self.run.pair.teacher}", None, [seat], batches, dataset, config, [])
            if seat.failure:
                raise RunFailed(f"teacher {self.run.pair.teacher}: {seat.failure}")
            teacher = teachers.store(self.run, member.network, member.history)
            seat.checkpoints.delete()
            return teacher

    def _train(self, jobs: list[Job], dataset: DataSet, teacher_top1: float | None) -> list[str]:
        """Train the students; their results go into the jobs, what failed is returned."""
        if not jobs:
            return []
        teacher = self.teacher.load(self.num_classes, self.device) if self.teacher else None
        batches = self._batches(dataset, self.students[0])
        num_steps = self.run.train.epochs * batches.steps_per_epoch
        with contextlib.ExitStack() as stack:
            for job in jobs:
                stack.enter_context(job.folder.lock())
                if warning := job.folder.remember_code():
                    self.console.print(f"[yellow]warning: {warning}[/]")
            members = [build_member(job.config, self.specs, batches.targets, num_steps) for job in jobs]
            seats = [Seat(member, Checkpoints(job.folder.path)) for member, job in zip(members, jobs, strict=True)]
            recorder = Recorder(self.run, jobs, dataset.evaluation_name, self.teacher, teacher_top1)
            stack.enter_context(recorder)
            self._run_cohort(self.run.pair.name, teacher, seats, batches, dataset, self.students[0], [recorder])
            for job, seat in zip(jobs, seats, strict=True):
                recorder.finish(job, seat)
        return [f"{seat.member.name}: {seat.failure}" for seat in seats if seat.failure]

    def _run_cohort(
        self,
        what: str,
        teacher: Network | None,
        seats: Sequence[Seat],
        batches: TrainBatches,
        dataset: DataSet,
        config: StudentConfig,
        observers: Sequence[Observer],
    ) -> None:
        evaluation = EvaluationBatches(dataset, self.device)
        with Display(self.console, what, config.train) as display:
            cohort = Cohort(teacher, seats, batches, evaluation, config.train, [*observers, display])
            try:
                cohort.run()
            except Interrupted:
                self.console.print(f"interrupted at step {cohort.step}; saved: the same command continues")
                raise


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, before anything is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"output={folder} cannot be written")
