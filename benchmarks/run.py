"""`python -m benchmarks.run`: distil one student, or a cohort of students under one teacher."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks import data, models, report, teachers
from benchmarks.cli import Command, main
from benchmarks.config import DataConfig, PairConfig, RunConfig
from benchmarks.data import DataSet, EvaluationBatches, TrainBatches
from benchmarks.display import Display, duration
from benchmarks.errors import Interrupted, RunFailed, UserError
from benchmarks.files import write_json, write_tensors
from benchmarks.help import overview
from benchmarks.identity import code_version, environment
from benchmarks.pairs import PAIRS
from benchmarks.protocol import StudentConfig, plain, resolve
from benchmarks.results import COMPLETE, RunFolder, run_folder, summarise
from benchmarks.teachers import Teacher
from benchmarks.tracking import Tracker
from benchmarks.training.build import build_member, feature_spec
from benchmarks.training.cohort import Cohort, Observer, Seat, autocast
from benchmarks.training.contract import rehearse
from benchmarks.training.evaluate import evaluate
from benchmarks.training.member import Member, Row
from benchmarks.training.progress import Checkpoints
from methods import InvalidSetting, MethodConfig, available, configure, get

NAME = "benchmarks.run"
SUMMARY = "distil a student from a teacher, tracked in W&B; the teacher is trained first if there is none"
EXAMPLES = (
    "python -m benchmarks.run method=aftkd pair=vgg13_vgg8 data=digits",
    "KD_DATA=/data python -m benchmarks.run method=kd pair=vgg13_vgg8 seed=1",
    "python -m benchmarks.run methods=[none,kd,at,aftkd] pair=vgg13_vgg8 data=digits",
)


def known_pairs() -> dict[str, tuple[str, str]]:
    """The pairs whose networks are there."""
    return {name: pair for name, pair in PAIRS.items() if set(pair) <= set(models.available())}


def groups() -> dict[str, dict[str, Any]]:
    """What method=, pair= and data= choose from."""
    return {
        "method": {name: configure(name) for name in available()},
        "pair": {name: PairConfig(name, *pair) for name, pair in known_pairs().items()} | {"custom": PairConfig()},
        "data": {name: DataConfig(name) for name in data.INFO},
    }


@dataclass
class Job:
    """One student of this command, from its configuration to its result."""

    config: StudentConfig
    folder: RunFolder
    result: dict[str, Any] | None


class Distillation:
    """One command's work."""

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
        sha256 = self.teacher.sha256 if self.teacher else None
        found = []
        for student in self.students:
            needs = get(student.method.name).needs
            folder = run_folder(Path(self.run.output), student, sha256 if needs else None, rerun=self.run.rerun)
            found.append(Job(student, folder, folder.result()))
        return found

    def __call__(self) -> int:
        """Do the work; returns the exit status."""
        if (self.teacher or not self.needs_teacher) and all(job.result for job in self.jobs()):
            return self._already_complete(self.jobs())
        check_writable(Path(self.run.output))
        dataset = data.load(
            self.run.data.name,
            Path(self.run.data.root),
            Path(self.run.data.cache),
            self.run.data.validation,
        )
        self._announce(dataset)
        top1 = self._prepare_teacher(dataset) if self.needs_teacher else None
        jobs = self.jobs()
        open_jobs = [job for job in jobs if job.result is None]
        failures = self._train(open_jobs, dataset, top1) if open_jobs else []
        self.console.print()
        report.print_results(self.console, self.run, [job for job in jobs if job.result], dataset.evaluation_name)
        if failures:
            raise RunFailed("\n".join(failures))
        return 0

    def _already_complete(self, jobs: list[Job]) -> int:
        what = "the run is" if len(jobs) == 1 else f"all {len(jobs)} runs are"
        self.console.print(f"{what} complete already (rerun=true runs again)\n")
        split = "val" if self.run.data.validation else "test"
        report.print_results(self.console, self.run, jobs, split)
        return 0

    def _announce(self, dataset: DataSet) -> None:
        """Say what will be done, after a rehearsal that shows that it can be, and how long it takes."""
        run, console = self.run, self.console
        names = ", ".join(student.label for student in self.students)
        console.print(f"[bold]{run.pair.teacher} teaches {run.pair.student} on {run.data.name}[/]: {names}")
        console.print(
            f"{len(dataset.train):,} training images, {run.train.epochs} epochs at batch "
            f"{run.train.batch_size}, {run.train.precision} on {self._device_name()}, seed {run.seed}"
        )
        batches = self._batches(dataset, run.seed)
        step = rehearse(self.students, self.specs, batches, run.train.epochs * batches.steps_per_epoch)
        seconds = run.train.epochs * batches.steps_per_epoch * step
        console.print(f"distillation: {step * 1000:.0f} ms a step, about {duration(seconds)} and the evaluations")
        if self.needs_teacher and self.teacher is None:
            seconds += self._announce_teacher(batches)
        if run.data.name != "digits" and seconds > 1800:
            console.print("[yellow]data=digits is the quick way: minutes, without any download[/]")
        for student in self.students:
            self._describe(student)

    def _announce_teacher(self, batches: TrainBatches) -> float:
        config = teachers.teacher_config(self.run)
        num_steps = config.train.epochs * batches.steps_per_epoch
        step = rehearse([config], (self.specs[1], self.specs[1]), batches, num_steps)
        self.console.print(
            f"teacher: none in {self.run.teacher.root} for this protocol; {config.pair.student} is trained first, "
            f"{config.train.epochs} epochs, {step * 1000:.0f} ms a step, about {duration(num_steps * step)}\n"
            "  (teacher.checkpoint=FILE takes one that you have)"
        )
        return num_steps * step

    def _describe(self, student: StudentConfig) -> None:
        """The resolved settings of a student's method."""
        settings = plain(student.method)
        hidden = {"name", "label"}
        shown = "  ".join(f"{key}={value}" for key, value in settings.items() if key not in hidden)
        self.console.print(
            f"{student.label}: {shown}  loss.schedule={student.loss.schedule}",
            soft_wrap=True,
            highlight=False,
        )

    def _device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.run.train.threads} CPU threads"

    def _batches(self, dataset: DataSet, seed: int, batch_size: int | None = None) -> TrainBatches:
        train = self.run.train
        return TrainBatches(dataset, batch_size or train.batch_size, seed, self.device, train.max_steps)

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
            self.console.print("note: whether this teacher has seen the validation images is not known")
        return top1

    def _train_teacher(self, dataset: DataSet) -> Teacher:
        config = teachers.teacher_config(self.run)
        place = RunFolder(teachers.folder(self.run), "teacher", 0)
        with place.lock():
            if found := teachers.find(self.run):  # another process has trained it by now
                return found
            batches = self._batches(dataset, config.seed, config.train.batch_size)
            num_steps = config.train.epochs * batches.steps_per_epoch
            member = build_member(config, (self.specs[1], self.specs[1]), batches.targets, num_steps)
            seat = Seat(member, Checkpoints(place.path))
            cohort = Cohort(
                None, [seat], batches, EvaluationBatches(dataset, self.device), config.train, Observer()
            )
            self._run_cohort(cohort, f"teacher {config.pair.student}")
            if seat.failure:
                raise RunFailed(f"teacher {config.pair.student}: {seat.failure}")
            teacher = teachers.store(self.run, member.network, member.history)
            seat.checkpoints.delete()
            return teacher

    def _run_cohort(self, cohort: Cohort, what: str) -> None:
        start = cohort.resume()
        if start:
            self.console.print(f"{what}: continued at step {start} of {cohort.num_steps}")
        names = [seat.member.name for seat in cohort.seats]
        train = cohort.train
        display = Display(self.console, what, names, start, cohort.num_steps, train.epochs, train.batch_size)
        cohort.observer = Observers([cohort.observer, display])
        try:
            with display:
                cohort.run()
        except Interrupted:
            self.console.print(
                f"interrupted at step {cohort.step} of {cohort.num_steps}; saved: the same command continues"
            )
            raise

    def _train(self, jobs: list[Job], dataset: DataSet, teacher_top1: float | None) -> list[str]:
        """Train the students; their results go into the jobs, what failed is returned."""
        teacher = self.teacher.load(self.num_classes, self.device) if self.teacher else None
        batches = self._batches(dataset, self.run.seed)
        num_steps = self.run.train.epochs * batches.steps_per_epoch
        with contextlib.ExitStack() as stack:
            for job in jobs:
                stack.enter_context(job.folder.lock())
                if warning := job.folder.remember_code():
                    self.console.print(f"[yellow]warning: {warning}[/]")
            seats = [
                Seat(
                    build_member(job.config, self.specs, batches.targets, num_steps),
                    Checkpoints(job.folder.path),
                )
                for job in jobs
            ]
            recorder = stack.enter_context(self._recorder(jobs, seats, dataset.evaluation_name, teacher_top1))
            evaluation = EvaluationBatches(dataset, self.device)
            cohort = Cohort(teacher, seats, batches, evaluation, self.run.train, recorder)
            self._run_cohort(cohort, self.run.pair.name)
            for job, seat in zip(jobs, seats, strict=True):
                recorder.finish(job, seat)
        return [f"{seat.member.name}: {seat.failure}" for seat in seats if seat.failure]

    @contextlib.contextmanager
    def _recorder(
        self, jobs: list[Job], seats: list[Seat], split: str, teacher_top1: float | None
    ) -> Iterator[Recorder]:
        recorder = Recorder(self.run, jobs, split, teacher_top1, self.teacher, environment(self.device))
        try:
            yield recorder
        except Interrupted:
            recorder.abandon("interrupted", seats)
            raise
        except BaseException:
            recorder.abandon("failed", seats)
            raise


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def on_start(self, members: Sequence[Member]) -> None:
        for observer in self.observers:
            observer.on_start(members)

    def on_step(self, step: int) -> None:
        for observer in self.observers:
            observer.on_step(step)

    def on_epoch(self, member: Member, row: Row) -> None:
        for observer in self.observers:
            observer.on_epoch(member, row)


class Recorder(Observer):
    """W&B runs and result files of a cohort's students."""

    def __init__(
        self,
        run: RunConfig,
        jobs: Sequence[Job],
        split: str,
        teacher_top1: float | None,
        teacher: Teacher | None,
        environment: dict[str, Any],
    ) -> None:
        self.run, self.split, self.teacher_top1 = run, split, teacher_top1
        self.environment = environment
        self.trackers: dict[str, Tracker] = {}
        self.contents = {job.config.label: self._content(job, teacher) for job in jobs}
        for job in jobs:
            label = job.config.label
            name = f"{label} {run.pair.name} seed {run.seed}"
            self.trackers[label] = Tracker(
                run.tracking, job.folder.path, job.folder.id, name, run.pair.name, self.contents[label]
            )

    def _content(self, job: Job, teacher: Teacher | None) -> dict[str, Any]:
        """W&B's `config`: the resolved configuration and all that it ran with."""
        needs_teacher = bool(get(job.config.method.name).needs)
        return plain(job.config) | {
            "label": job.config.label,
            "id": job.folder.id,
            "attempt": job.folder.attempt,
            "teacher": None
            if teacher is None or not needs_teacher
            else {"network": teacher.network, "sha256": teacher.sha256, "source": teacher.source},
            "code": code_version(),
            "environment": self.environment,
        }

    def on_start(self, members: Sequence[Member]) -> None:
        # W&B cannot continue an offline run: what it knew before is logged again, and the later row counts.
        for member in members:
            for row in member.history:
                self.trackers[member.name].log(row)

    def on_epoch(self, member: Member, row: Row) -> None:
        self.trackers[member.name].log(row)

    def finish(self, job: Job, seat: Seat) -> None:
        """Write a student's result, or note its failure."""
        tracker = self.trackers[job.config.label]
        where = tracker.url or (str(tracker.path) if tracker.path else None)
        if seat.failure:
            tracker.finish("failed", {"failure": seat.failure})
            return
        needs_teacher = bool(seat.member.needs)
        summary = summarise(seat.member.history, self.split, self.teacher_top1 if needs_teacher else None)
        tracker.finish(COMPLETE, summary)
        write_tensors(job.folder.path / "student.safetensors", seat.member.network.state_dict())
        job.result = {
            "status": COMPLETE,
            "summary": summary,
            "wandb": where,
            "config": self.contents[job.config.label],
            "history": seat.member.history,
        }
        write_json(job.folder.path / "result.json", job.result)
        seat.checkpoints.delete()

    def abandon(self, status: str, seats: Sequence[Seat]) -> None:
        """End the W&B runs of a cohort that did not finish."""
        for seat in seats:
            self.trackers[seat.member.name].finish(status, {"epochs": len(seat.member.history)})


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, before anything is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise UserError(f"output={folder}: {error.strerror}") from None
    if not writable:
        raise UserError(f"output={folder} cannot be written")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    run, methods = resolve(config, given)
    torch.set_num_threads(run.train.threads)
    if run.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Distillation(run, methods, Console(soft_wrap=True, highlight=False))()


COMMAND = Command(
    name=NAME,
    summary=SUMMARY,
    examples=EXAMPLES,
    config=RunConfig,
    groups=groups(),
    defaults={"method": None, "pair": None, "data": "cifar100"},
    run=execute,
    overview=lambda: overview(NAME, SUMMARY, known_pairs(), EXAMPLES),
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
