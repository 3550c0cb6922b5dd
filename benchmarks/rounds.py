"""Training loops of one pair's students, measured by turns: plain ones, this suite's, and a cohort's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.config import MOST_THREADS, RunConfig
from benchmarks.distillation import Distillation
from benchmarks.models import Network
from benchmarks.plain_loop import PlainLoop
from benchmarks.training.build import build_cohort, build_network, frozen
from benchmarks.training.device import seconds
from benchmarks.training.launcher import WARM_UP
from benchmarks.training.member import Member
from benchmarks.training.stopwatch import Loop
from benchmarks.views import empty_table
from benchmarks.workbench import Workbench
from methods import option


@dataclass(frozen=True)
class ThroughputConfig(RunConfig):
    """What is measured."""

    repeats: int = option(5, "rounds; in each, all loops are measured in turn", least=1)
    steps: int = option(10, "training steps of a loop in each round", least=1)
    workers: int | None = option(
        None,
        "of the plain loops' DataLoader; default: the best number for the first method, found by trial",
        least=0,
        most=MOST_THREADS,
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
        members, teaching = build_cohort(self.students * 2, self.specs, self.batches.targets, 1, self.teacher)
        for member in members:
            member.begin_epoch(0, train.lr)
        self.teaching = dataclasses.replace(teaching, table=empty_table(config, self.teacher, self.batches))
        alone, together = members[: len(self.students)], members[len(self.students) :]
        self.alone = {member.name: self._loop(f"{member.name} alone", [member]) for member in alone}
        self.cohort = self._loop("the cohort", together)

    def _plain_loops(self, teacher: Network) -> dict[str, PlainLoop]:
        """One for each student, on the same workers: forks of a process that uses a GPU take seconds to end."""
        loops: dict[str, PlainLoop] = {}
        workers, loaders = self.config.workers, dict[tuple[int, bool], Iterator[Any]]()
        for student in self.students:
            loop = PlainLoop(student, self.specs, self.dataset, teacher, self.device, workers, loaders)
            loops[student.label], workers = loop, loop.num_workers
        return loops

    def _loop(self, name: str, members: list[Member]) -> Loop:
        def say(notice: str) -> None:
            self.notices.setdefault(name, []).append(notice)

        return Loop(self.teaching, members, self.batches, self.config.train, say)

    @property
    def workers(self) -> int:
        """Workers of the plain loops' DataLoader."""
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
