"""How long a training takes, from how fast runs of the same networks went: throughput × multiply–accumulates.

It covers training and evaluations; a process's start, the checks before and what is written do not grow with them.
A cohort's step costs one forward pass of the teacher and, of each student, one forward and twice that backward;
what a method adds is not known before it runs, so this is an estimate. Where no student of a pair was trained yet,
the rate is their teacher's: on two CPU cores, of five pairs, 0.6 to 1.1 times the students'.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import data, metrics
from benchmarks.config import DataConfig, TrainConfig
from benchmarks.costs import cost
from benchmarks.files import CARD, RESULT, record_at
from benchmarks.identity import hardware, slug
from benchmarks.teachers import TeacherPlan
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.variants import StudentConfig

BACKWARD = 2  # times a forward pass
# On what a throughput depends beside the networks and the data set.
SPEED_KEYS = ("batch_size", "precision", "device", "threads", "compile")
NEWEST = 20  # measured runs of a pair that are looked at


@dataclass(frozen=True)
class Effort:
    """What there is to compute.

    Attributes:
        macs_per_image: multiply–accumulates of a training step for each image.
        macs: of the whole training, evaluations included.
    """

    macs_per_image: int
    macs: int


def effort_of_students(students: Sequence[StudentConfig]) -> Effort:
    """The effort of a cohort's training."""
    first = students[0]
    info = data.INFO[first.data.name]
    teacher, student = (cost(name, info).macs for name in (first.pair.teacher, first.pair.student))
    if not any(each.has_teacher for each in students):
        teacher = 0
    return _effort(teacher, len(students) * student, first.train, first.data)


def effort_of_teacher(plan: TeacherPlan) -> Effort:
    """The effort of a teacher's training."""
    network = cost(plan.network, data.INFO[plan.data.name]).macs
    return _effort(0, network, plan.train, plan.data)


def num_steps(train: TrainConfig, config: DataConfig) -> int:
    """Steps of a main training."""
    return train.epochs * data.steps_per_epoch(_num_train(config), train.batch_size, train.max_steps)


def _num_train(config: DataConfig) -> int:
    return round(data.INFO[config.name].num_train * (1 - config.validation))


def _effort(teacher: int, students: int, train: TrainConfig, config: DataConfig) -> Effort:
    info, num_train = data.INFO[config.name], _num_train(config)
    num_evaluated = info.num_train - num_train if config.validation else info.num_test
    images = min(num_train, (train.max_steps or num_train) * train.batch_size)
    macs_per_image = teacher + (1 + BACKWARD) * students
    return Effort(macs_per_image, train.epochs * (images * macs_per_image + num_evaluated * students))


def seconds_at_its_pace(progress: Mapping[str, Any], batch_size: int) -> float | None:
    """How long a task takes as an interrupted process began it; None where that did not get far."""
    rate = progress.get("images_per_s")
    return progress["num_steps"] * batch_size / rate if rate else None


def part_done(folders: Sequence[Path | None], num_steps: int) -> float:
    """How much of a task its checkpoints spare, from 0 to 1; a stage before the main training is not counted.

    Args:
        folders: of those who are trained; None where there is none yet.
        num_steps: of their main training.
    """
    steps = [max([0, *Checkpoints(folder).steps()]) if folder else 0 for folder in folders]
    return statistics.fmean(steps) / num_steps


class Rates:
    """Multiply–accumulates a second, measured: by what was trained, and on what.

    Args:
        output: folder of the runs.
        teacher_root: the teacher store.
    """

    def __init__(self, output: Path, teacher_root: Path) -> None:
        self.output, self.teacher_root = output, teacher_root
        self._of_pairs: dict[str, Mapping[Any, float]] = {}

    def of_students(self, student: StudentConfig) -> float | None:
        """The rate of cohorts of the same networks under the same protocol; None where none is complete."""
        pair = student.pair.name
        if pair not in self._of_pairs:
            self._of_pairs[pair] = _medians(self._measured(pair))
        key = (student.data.name, *(getattr(student.train, name) for name in SPEED_KEYS))
        return self._of_pairs[pair].get(key)

    def _measured(self, pair: str) -> Iterator[tuple[Any, float]]:
        results = sorted(
            (self.output / slug(pair)).glob(f"*/*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True
        )
        for path in results[:NEWEST]:
            try:
                result = record_at(path)
                config = result["config"]
                train = {"compile": False} | config["train"]  # older runs could not
                key = (config["data"]["name"], *(train[name] for name in SPEED_KEYS))
                teacher, student = (config["costs"][role]["macs"] for role in ("teacher", "student"))
                if config["teacher"] is None and len(config["cohort"]) == 1:  # the student alone
                    teacher = 0
                macs = teacher + (1 + BACKWARD) * len(config["cohort"]) * student
                yield key, result["history"][-1][metrics.IMAGES_PER_SECOND] * macs
            except (KeyError, TypeError, IndexError):  # damaged, or of an older version: no measurement
                continue

    def of_teacher(self, plan: TeacherPlan) -> float | None:
        """The rate of trainings of the same network, likewise on such a device; None where none is in the store."""
        macs = (1 + BACKWARD) * cost(plan.network, data.INFO[plan.data.name]).macs
        rates, device = [], hardware(torch.device(plan.train.device.value))
        wanted = (plan.data.name, plan.train.batch_size, plan.train.precision, device)
        for path in (self.teacher_root / plan.network).glob(f"*/{CARD}"):
            try:
                card = record_at(path)
                where = card["precision"], card["environment"]["device"]
                if (card["data"], card["protocol"]["batch_size"], *where) == wanted:
                    rates.append(card["history"][-1][metrics.IMAGES_PER_SECOND] * macs)
            except (KeyError, TypeError, IndexError):  # damaged, or imported: no measurement
                continue
        return statistics.median(rates) if rates else None


def _medians(measured: Iterator[tuple[Any, float]]) -> Mapping[Any, float]:
    by_key = defaultdict(list)
    for key, rate in measured:
        by_key[key].append(rate)
    return {key: statistics.median(rates) for key, rates in by_key.items()}
