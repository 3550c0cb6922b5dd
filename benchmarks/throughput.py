"""`python -m benchmarks.throughput`: how fast this suite trains, against a plain loop in the same process."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks import groups
from benchmarks.checks import check_path
from benchmarks.cli import Command, main
from benchmarks.clock import milliseconds
from benchmarks.config import RunConfig, plain
from benchmarks.console import make_console, make_table
from benchmarks.distillation import Distillation
from benchmarks.errors import require
from benchmarks.files import check_writable, write_json
from benchmarks.identity import code_version, environment
from benchmarks.models import Network
from benchmarks.overview import overview
from benchmarks.plain_loop import PlainLoop, check_workers
from benchmarks.protocol import resolve
from benchmarks.training.build import build_member, build_network, frozen
from benchmarks.training.device import device_name
from benchmarks.training.folding import ready_to_teach
from benchmarks.training.kernels import KINDS, OTHERS, Share, by_kind, kernels, total
from benchmarks.training.launcher import WARM_UP
from benchmarks.training.member import Member
from benchmarks.training.stopwatch import Loop, launched_step, matrix_product_peak, operations, parts, seconds
from benchmarks.variants import StudentConfig
from benchmarks.views import empty_table
from benchmarks.words import counted
from benchmarks.workbench import Workbench, open_workbench
from methods import option

NAME = "benchmarks.throughput"
SUMMARY = "images per second of a plain loop, of this suite and of a cohort, measured by turns in one process"
EXAMPLES = (
    "python -m benchmarks.throughput pair=vgg13_vgg8 'methods=[kd,at,fitnet,crd,aftkd]'",
    "python -m benchmarks.throughput pair=vgg13_vgg8 method=kd data=digits repeats=3 out=throughput.json",
)


@dataclass(frozen=True)
class ThroughputConfig(RunConfig):
    """What is measured."""

    repeats: int = option(5, "rounds; in each, all loops are measured in turn")
    steps: int = option(10, "training steps of a loop in each round")
    workers: int | None = option(
        None, "of the plain loops' DataLoader; default: the best number for the first method, found by trial"
    )
    kernels: bool = option(False, "also where a step's time goes kernel by kernel, by torch's profiler")
    out: str | None = option(None, "a JSON file for the raw figures, with hardware and versions")


@dataclass(frozen=True)
class Rounds:
    """Seconds of a step in each round: of each method's plain loop, of ours alone, of the cohort."""

    plain: dict[str, list[float]]
    alone: dict[str, list[float]]
    cohort: list[float]


class Throughput:
    """Loops of one pair's students, side by side. Weights are random: a step takes as long with any.

    Args:
        config: resolved.
        distillation: whose students are measured, one for each method, on its device.
        workbench: with the data.
    """

    def __init__(self, config: ThroughputConfig, distillation: Distillation, workbench: Workbench) -> None:
        self.config, self.dataset, train = config, workbench.dataset, config.train
        self.notices: dict[str, list[str]] = {}  # by loop, why ours are not replayed or compiled after all
        self.students, self.specs = distillation.students, distillation.specs
        self.device = workbench.device
        self.batches = workbench.batches(self.students[0])
        self.teacher, plain_teacher = (
            frozen(build_network(config.pair.teacher, self.dataset.num_classes, 0, self.device)) for _ in range(2)
        )
        self.plain = self._plain_loops(plain_teacher)
        alone = {student.label: self._members([student]) for student in self.students}
        together = self._members(self.students)
        ready_to_teach(self.teacher, train)
        self.table = empty_table(config, self.teacher, self.batches)
        self.alone = {label: self._loop(f"{label} alone", members) for label, members in alone.items()}
        self.cohort = self._loop("the cohort", together)

    def _plain_loops(self, teacher: Network) -> dict[str, PlainLoop]:
        """One for each student, on the same workers: forks of a process that uses a GPU take seconds to end."""
        loops: dict[str, PlainLoop] = {}
        workers, loaders = self.config.workers, dict[int, Iterator[Any]]()
        for student in self.students:
            loop = PlainLoop(student, self.specs, self.dataset, teacher, self.device, workers, loaders)
            loops[student.label], workers = loop, loop.num_workers
        return loops

    def _members(self, students: list[StudentConfig]) -> list[Member]:
        members = [
            build_member(student, self.specs, self.batches.targets, num_steps=1, teacher=self.teacher)
            for student in students
        ]
        for member in members:
            member.begin_epoch(0, self.config.train.lr)
        return members

    def _loop(self, name: str, members: list[Member]) -> Loop:
        def say(notice: str) -> None:
            self.notices.setdefault(name, []).append(notice)

        return Loop(self.teacher, members, self.batches, self.config.train, say, self.table)

    @property
    def workers(self) -> int:
        """Of the plain loops' DataLoader."""
        return next(iter(self.plain.values())).num_workers

    def rounds(self) -> Rounds:
        """Measure all loops in turn, after one round that does not count."""
        found = Rounds({label: [] for label in self.plain}, {label: [] for label in self.alone}, [])
        loops: list[tuple[Loop | PlainLoop, list[float]]] = []
        for label in self.alone:
            loops += [(self.plain[label], found.plain[label]), (self.alone[label], found.alone[label])]
        loops.append((self.cohort, found.cohort))
        for loop, _ in loops:
            _look_ahead(loop, WARM_UP + 1)
            loop.run(WARM_UP + 1)
        for _ in range(self.config.repeats):
            for loop, times in loops:
                _look_ahead(loop, self.config.steps)
                times.append(seconds(loop.run, self.config.steps, self.device))
        return found


def _look_ahead(loop: Loop | PlainLoop, num_steps: int) -> None:
    if isinstance(loop, Loop):
        loop.look_ahead(num_steps)


def execute(typed: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    config, variants = resolve(typed, given)
    assert isinstance(config, ThroughputConfig)
    for name in ("repeats", "steps"):
        require(getattr(config, name) >= 1, f"{name}={getattr(config, name)} must be at least 1")
    check_workers(config.workers)
    check_path("out", config.out)
    console = make_console()
    distillation = Distillation(config, variants, console)
    if config.out:
        check_writable("out", Path(config.out).parent)
    bench = Throughput(config, distillation, open_workbench(config, console))
    console.print(
        f"{config.pair.name} on {config.data.name}, batch {config.train.batch_size}, ours in "
        f"{config.train.precision}, on {device_name(config.train)}; "
        f"{counted(config.repeats, 'round')} of {counted(config.steps, 'step')}"
    )
    if bench.table is not None:
        console.print(f"teacher.views={config.teacher.views}: what the teacher shows in the steps of ours is known")
    rounds = bench.rounds()
    _print_rates(console, bench, rounds)
    shares = _print_parts(console, bench, rounds)
    found = _print_kernels(console, bench) if config.kernels else {}
    for name, notices in bench.notices.items():
        for notice in notices:
            console.print(f"note: {name}: {notice.removeprefix('note: ')}")
    if config.out:
        _write(Path(config.out), bench, rounds, shares, found)
        console.print(f"raw figures: {config.out}")
    return 0


def _print_rates(console: Console, bench: Throughput, rounds: Rounds) -> None:
    batch, size = bench.config.train.batch_size, len(bench.students)
    table = make_table()
    for name in ("images/s per student", "plain loop", "ours alone", "ratio", f"in the cohort of {size}", "ratio"):
        table.add_column(name, justify="left" if name.startswith("images") else "right")
    share = [step / size for step in rounds.cohort]
    for label in bench.alone:
        slow, fast = rounds.plain[label], rounds.alone[label]
        table.add_row(
            label,
            _rate(slow, batch),
            _rate(fast, batch),
            _ratio(slow, fast),
            _rate(share, batch),
            _ratio(slow, share),
        )
    console.print(table)
    console.print("ratios to the method's own plain loop: median over the rounds, and their range")
    console.print(f"DataLoader workers of the plain loops: {bench.workers}")


def _rate(times: list[float], batch_size: int) -> str:
    return f"{batch_size / statistics.median(times):.0f}"


def _ratio(slow: list[float], fast: list[float]) -> str:
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _print_parts(console: Console, bench: Throughput, rounds: Rounds) -> dict[str, dict[str, float]]:
    """Where a step of ours goes, and how near it comes to the device's matrix products; returns the figures."""
    dtype = torch.bfloat16 if bench.config.train.precision == "bf16" else torch.float32
    peak = matrix_product_peak(bench.device, dtype)
    columns = ("data", "teacher", "student", "optimiser", "method")
    table = make_table()
    for name in ("ours alone, % of a step", *columns, "ms", "GFLOP", "% of peak"):
        table.add_column(name, justify="left" if name.startswith("ours") else "right")
    figures = {}
    for label, loop in bench.alone.items():
        step, count = statistics.median(rounds.alone[label]), operations(loop)
        spent = parts(loop, bench.config.steps)
        launched = step if loop.launch.graphs is None else launched_step(loop, bench.config.steps)
        spent["method"] = launched - sum(spent.values())
        figures[label] = spent | {"launched": launched, "step": step, "operations": count, "peak": peak}
        table.add_row(
            label,
            *(f"{100 * spent[name] / launched:.0f}" for name in columns),
            milliseconds(step).removesuffix(" ms"),
            f"{count / 1e9:.1f}",
            f"{100 * count / step / peak:.0f}",
        )
    console.print(table)
    if any(loop.launch.graphs for loop in bench.alone.values()):
        console.print("parts are of steps launched kernel by kernel: replayed ones can be measured as a whole only")
    console.print(
        "each part was measured by itself; the method's is what remains of a step, and so takes in their noise; "
        f"peak: the best {str(dtype).removeprefix('torch.')} matrix product, {peak / 1e12:.2f} TFLOP/s"
    )
    return figures


def _print_kernels(console: Console, bench: Throughput) -> dict[str, dict[str, Share]]:
    """What each loop does in a step, by kinds of kernels; returns it by their names."""
    loops = bench.alone | {f"cohort of {len(bench.students)}": bench.cohort}
    found = {name: kernels(loop, bench.config.steps) for name, loop in loops.items()}
    kinds = {name: by_kind(each) for name, each in found.items()}
    table = make_table()
    table.add_column("kernels of a step, ms (number)")
    for name in loops:
        table.add_column(name, justify="right")
    for kind in (*KINDS, OTHERS):
        cells = [_share(each.get(kind)) for each in kinds.values()]
        if any(cells):
            table.add_row(kind, *cells)
    table.add_row("all", *(_share(total(each.values())) for each in kinds.values()))
    console.print(table)
    console.print("sums over the kernels, of which those of a cohort may pass side by side, and each longer for it")
    return found


def _share(share: Share | None) -> str:
    return "" if share is None else f"{1000 * share.seconds:.3f} ({share.count:.0f})"


def _write(
    path: Path,
    bench: Throughput,
    rounds: Rounds,
    shares: dict[str, dict[str, float]],
    found: dict[str, dict[str, Share]],
) -> None:
    write_json(
        path,
        {
            "config": plain(bench.config),
            "seconds_of_a_step": {"plain": rounds.plain, "alone": rounds.alone, "cohort": rounds.cohort},
            "workers": bench.workers,
            "parts": shares,
            "kernels": {loop: {name: vars(each) for name, each in by.items()} for loop, by in found.items()},
            "notices": bench.notices,
            "environment": environment(bench.device),
            "code": code_version(),
        },
    )


COMMAND = Command(
    name=NAME,
    summary=SUMMARY,
    examples=EXAMPLES,
    config=ThroughputConfig,
    groups=groups.of_a_run(),
    defaults=groups.DEFAULTS,
    run=execute,
    overview=lambda: overview(NAME, SUMMARY, EXAMPLES),
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
