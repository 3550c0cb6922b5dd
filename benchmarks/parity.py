"""`python -m benchmarks.parity`: whether what is fast learns the same, against a plain loop over seeds."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from scipy import stats

from benchmarks import groups, metrics
from benchmarks.cli import Command, main
from benchmarks.clock import duration
from benchmarks.config import MOST_THREADS, Device, Optimizer, Precision, RunConfig, plain
from benchmarks.console import make_console, make_table
from benchmarks.distillation import Distillation
from benchmarks.errors import RunFailed, require
from benchmarks.files import RESULT, check_file, check_writable, write_json, write_record
from benchmarks.identity import code_version, environment, slug
from benchmarks.overview import overview
from benchmarks.plain_loop import PlainLoop, most_workers
from benchmarks.protocol import resolve
from benchmarks.results import COMPLETE, Job, locked
from benchmarks.streams import global_stream
from benchmarks.tracking import check_tracking
from benchmarks.training.build import build_method
from benchmarks.training.device import device_name
from benchmarks.variants import Variant
from benchmarks.words import counted, signed
from benchmarks.workbench import Workbench, open_workbench
from methods import option

PLAIN = "plain loop"
FOLDER = "parity"  # in `output`

# Top-1 in percent, a seed each, by way and method.
Accuracies = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class ParityConfig(RunConfig):
    """What is compared: float32 and train.precision, on a GPU launched and replayed, and train.compile."""

    repeats: int = option(3, "students of each way: of seed, seed + 1, …", least=2)  # one has no spread
    workers: int | None = option(
        None, "of the plain loop's DataLoader; default: the cores, at most 16", least=0, most=MOST_THREADS
    )
    out: str | None = option(None, "a JSON file for the raw figures, with hardware and versions")


@dataclass(frozen=True)
class Way:
    """A way to train students: their precision, and whether kernels are replayed as a graph and compiled."""

    name: str
    precision: Precision = Precision.fp32
    graph: bool = False
    compile: bool = False


def ways(config: RunConfig) -> list[Way]:
    """This suite's ways on a device, the plainest first."""
    precisions = dict.fromkeys((Precision.fp32, config.train.precision))
    graphs = {"": False}
    if config.train.device == Device.cuda:
        graphs = {" launched": False} | ({" replayed": True} if config.train.graph else {})
    found = [
        Way(f"{precision}{name}", precision, graph)
        for precision, (name, graph) in itertools.product(precisions, graphs.items())
    ]
    fastest = dataclasses.replace(found[-1], name=f"{found[-1].name} compiled", compile=True)
    return [*found, fastest] if config.train.compile else found


class Parity:
    """Students of a pair, trained in several ways.

    Args:
        config: resolved.
        variants: what they are trained with.
        bench: with the data.
    """

    def __init__(self, config: ParityConfig, variants: Sequence[Variant], bench: Workbench) -> None:
        self.config, self.variants, self.bench = config, list(variants), bench
        self.ways = ways(config)
        self.asked = Distillation(config, variants, bench.console)  # in the way that was asked for
        self.jobs: dict[str, list[Job]] = {way.name: [] for way in (Way(PLAIN), *self.ways)}

    def distillation(self, way: Way, seed: int) -> Distillation:
        """The students of a way and a seed, each way's in a folder of its own."""
        output = str(Path(self.config.output) / FOLDER / slug(way.name))
        train = dataclasses.replace(
            self.config.train, precision=way.precision, graph=way.graph, compile=way.compile
        )
        run = dataclasses.replace(self.config, seed=seed, output=output, train=train)
        return Distillation(run, self.variants, self.bench.console)

    @property
    def seeds(self) -> range:
        """The seeds of the students."""
        return range(self.config.seed, self.config.seed + self.config.repeats)

    def rehearse(self) -> None:
        """Check that what is not complete can be trained, and say how long it takes."""
        for way in self.ways:
            todo = [self.distillation(way, seed) for seed in self.seeds]
            todo = [each for each in todo if not all(job.result for job in each.jobs())]
            if todo:
                self.bench.rehearse(f"{way.name}, {len(todo)} times", todo[0].students, todo[0].specs)
        self.asked.rehearse_teacher(self.bench)

    def train(self) -> None:
        """Train whatever is not complete, seed by seed.

        Raises:
            RunFailed: a student failed.
            Interrupted: by a signal; everything but what the plain loop was at is saved.
        """
        if self.asked.needs_teacher:  # the fastest way: a teacher is the same for all
            self.asked.prepare_teacher(self.bench)
        for seed in self.seeds:
            for way in self.ways:
                self.bench.console.print(f"{way.name}, seed {seed}", style="bold")
                self._keep(way, self.distillation(way, seed).train(self.bench))
            self._keep(Way(PLAIN), self._train_plainly(seed))

    def _keep(self, way: Way, jobs: list[Job]) -> None:
        if failures := [f"{way.name}: {job.config.label}: {job.failure}" for job in jobs if job.failure]:
            raise RunFailed("\n".join(failures))
        self.jobs[way.name] += jobs

    def _train_plainly(self, seed: int) -> list[Job]:
        distillation = self.distillation(Way(PLAIN), seed)
        if distillation.needs_teacher:
            distillation.prepare_teacher(self.bench)
        jobs = distillation.jobs()
        for job in jobs:
            with locked(job.folder.path):
                job.result = job.folder.result() or self._train_plain_student(distillation, job)
        return jobs

    def _train_plain_student(self, distillation: Distillation, job: Job) -> dict[str, Any]:
        """Train a student in the plain loop and write its result; returns that."""
        dataset, config = self.bench.dataset, job.config
        workers = most_workers() if self.config.workers is None else self.config.workers
        teacher = distillation.teacher
        network = teacher.load(dataset.num_classes, distillation.device) if teacher else None
        with global_stream(config.seed, PLAIN):
            loop = PlainLoop(config, distillation.specs, dataset, network, distillation.device, workers)
            self._run(loop)
            accuracy = loop.accuracy()
        self.bench.console.print(f"{config.label}: {accuracy:.2f} % {dataset.evaluation_name} top-1")
        summary = {metrics.evaluation(dataset.evaluation_name, metrics.TOP1_LAST): accuracy}
        result = {"status": COMPLETE, "summary": summary, "config": plain(config) | {"code": code_version()}}
        write_record(job.folder.path / RESULT, result)
        return result

    def _run(self, loop: PlainLoop) -> None:
        """All epochs of a plain loop."""
        console, config, started = self.bench.console, loop.config, time.perf_counter()
        console.print(f"{PLAIN}, seed {config.seed}: {config.label}", style="bold")
        for epoch in range(1, config.train.epochs + 1):
            top1 = loop.run_epoch()
            passed = duration(time.perf_counter() - started)
            console.print(f"epoch {epoch}/{config.train.epochs}  {config.label}  train {top1:6.2f} %  {passed}")

    def accuracies(self) -> Accuracies:
        """What all students reached, in the order of the seeds."""
        name = metrics.evaluation(self.bench.dataset.evaluation_name, metrics.TOP1_LAST)
        found: Accuracies = {}
        for way, jobs in self.jobs.items():
            found[way] = {variant.label: [] for variant in self.variants}
            for job in jobs:
                assert job.result is not None
                found[way][job.config.label].append(job.result["summary"][name])
        return found


def execute(typed: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    config, variants = resolve(typed, given)
    assert isinstance(config, ParityConfig)
    console = make_console()
    _check(Distillation(config, variants, console))  # which refuses what cannot work, before anything is written
    check_writable("output", Path(config.output))
    if config.out:
        check_file("out", Path(config.out))
    check_tracking(config.tracking)
    bench = open_workbench(config, console)
    parity = Parity(config, variants, bench)
    _announce(parity, console)
    parity.train()
    accuracies = parity.accuracies()
    _print(console, parity, accuracies)
    if config.out:
        _write(Path(config.out), parity, accuracies)
        console.print(f"raw figures: {config.out}")
    return 0


def _check(asked: Distillation) -> None:
    optimizer = asked.run.train.optimizer
    require(optimizer == Optimizer.sgd, f"train.optimizer={optimizer}: the plain loop has sgd")
    for student in asked.students:
        method = build_method(student, asked.specs, torch.arange(asked.info.num_classes))
        require(
            method.pretraining is None,
            f"method {method.name} has a stage before the main training, which the plain loop lacks",
        )


def _announce(parity: Parity, console: Console) -> None:
    config = parity.config
    names = ", ".join(way.name for way in parity.ways)
    console.print(f"{config.pair.name} on {config.data.name}: {PLAIN} and {names}", style="bold")
    console.print(
        f"epochs: {config.train.epochs}, batch {config.train.batch_size}, on "
        f"{device_name(config.train)}, seeds {', '.join(map(str, parity.seeds))}"
    )
    console.print(parity.bench.dataset.summary)
    parity.rehearse()


def _print(console: Console, parity: Parity, accuracies: Accuracies) -> None:
    labels = [variant.label for variant in parity.variants]
    title = f"{parity.config.data.split} top-1 in %, {counted(parity.config.repeats, 'seed')}"
    table = make_table(title, numbers=labels)
    for name, reached in accuracies.items():
        table.add_row(name, *(_spread(reached[label]) for label in labels))
    table.add_section()
    for way in parity.ways:
        cells = (_difference(accuracies[way.name][label], accuracies[PLAIN][label]) for label in labels)
        table.add_row(f"{way.name} − {PLAIN}", *cells)
    console.print()
    console.print(table)
    console.print("mean ± standard deviation; difference of the means with its 95 % interval (Welch)")


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """The difference of two means and its 95 % interval by Welch's t, a point where nothing varies."""
    difference = float(np.mean(ours) - np.mean(theirs))
    if np.ptp(ours) == np.ptp(theirs) == 0:
        return difference, difference, difference
    low, high = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return difference, float(low), float(high)


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    difference, low, high = map(signed, interval(ours, theirs))
    return f"{difference} ({low} to {high})"


def _write(path: Path, parity: Parity, accuracies: Accuracies) -> None:
    runs = {way: [_behind(job) for job in jobs] for way, jobs in parity.jobs.items()}
    device = torch.device(parity.config.train.device.value)
    content = {"config": plain(parity.config), "top1": accuracies, "runs": runs}
    write_json(path, content | {"environment": environment(device), "code": code_version()})


def _behind(job: Job) -> dict[str, Any]:
    """Where a run is, and the code that trained it."""
    assert job.result is not None
    return {"folder": str(job.folder.path), "code": job.result["config"]["code"]}


COMMAND = Command(
    name="benchmarks.parity",
    summary="compare the accuracy of students that this suite trains in its fast ways with those of a plain loop",
    examples=(
        "python -m benchmarks.parity method=kd pair=vgg13_vgg8 data=digits",
        "python -m benchmarks.parity 'methods=[kd,aftkd]' pair=vgg13_vgg8 repeats=5 train.epochs=2 out=parity.json",
    ),
    config=ParityConfig,
    groups=groups.of_a_run,
    defaults=groups.DEFAULTS,
    run=execute,
    overview=overview,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
