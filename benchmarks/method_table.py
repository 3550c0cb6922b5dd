"""`python -m benchmarks.method_table`: writes `methods/README.md`, the page of all methods and their costs."""

from __future__ import annotations

import copy
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks import data, groups
from benchmarks.checks import check_bounds, check_train
from benchmarks.cli import Command, main
from benchmarks.config import DataConfig, Optimizer, PairConfig, TrainConfig
from benchmarks.console import make_console
from benchmarks.data import Batch, DataInfo
from benchmarks.errors import require
from benchmarks.files import check_file, write_text
from benchmarks.pairs import PAIRS
from benchmarks.protocol import fill_data, fill_pair, fill_train
from benchmarks.training.build import build_cohort, build_network, feature_spec, frozen, specs_of
from benchmarks.training.device import device_name, seconds
from benchmarks.training.member import Member
from benchmarks.training.step import train_step, views_of
from benchmarks.training.teaching import Teaching
from benchmarks.variants import Specs, StudentConfig
from benchmarks.workbench import prepare_torch
from methods import ALONE, InvalidSetting, MethodConfig, available, configure, get, option
from methods.schedules import LossConfig

NUM_IMAGES = 50_000  # of CIFAR-100: a memory bank has as many rows
STEPS = 3  # timed as one
# Where costs are measured unless told otherwise: what any machine has, so that a new row fits the others.
USUAL = {"device": "cpu", "threads": 1, "precision": "fp32"}
ROW = re.compile(r"^\| `(.+?)` \|.* \| ([\d.]+) × \| [^|]+ \|$", re.MULTILINE)


@dataclass(frozen=True)
class MethodTableConfig:
    """What is measured, and where the page goes."""

    pair: Any = option(PairConfig, "teacher and student that costs are measured on")
    data: Any = option(DataConfig, "the data set, whose number of classes counts")
    train: TrainConfig = option(TrainConfig, "the protocol")
    repeats: int = option(
        5, "rounds; in each, steps with the method and of the student alone are timed in turn", least=1
    )
    out: str = option("methods/README.md", "the page")
    rerun: bool = option(False, "measure all methods anew, not only those that the page lacks")


@dataclass(frozen=True)
class Cost:
    """What a method adds to the training of a student.

    Attributes:
        parameters: trainable values beside the student's.
        step: time of a training step over that of the student alone, the best of the rounds each.
        before: length of the stage before the main training, as a part of its epochs; 0: there is none.
    """

    parameters: int
    step: float
    before: float


class Bench:
    """One pair's networks, with random weights, and a batch of noise: a step takes as long on any other."""

    def __init__(self, config: MethodTableConfig) -> None:
        self.config, train, pair = config, config.train, config.pair
        self.device = torch.device(train.device.value)
        info = data.INFO[config.data.name]
        self.specs = specs_of(pair, info)
        self.teacher = frozen(build_network(pair.teacher, info.num_classes, 0, self.device))
        self.targets = torch.arange(NUM_IMAGES, device=self.device) % info.num_classes
        index = torch.arange(train.batch_size, device=self.device)
        images = torch.randn(train.batch_size, *info.shape, device=self.device)
        self.batch = Batch(images.to(memory_format=torch.channels_last), self.targets[index], index)
        self.alone = self._cohort(ALONE)

    def cost(self, name: str, step: float | None = None) -> Cost | None:
        """What a method costs on the pair; None if it cannot serve it.

        Args:
            name: of the method.
            step: as of `Cost`; None: it is measured.
        """
        try:
            cohort = self._cohort(name)
        except InvalidSetting:
            return None
        method = cohort[0][0].method
        parameters = sum(parameter.numel() for parameter in method.parameters())
        stage = method.pretraining
        return Cost(parameters, step or self._step(cohort), stage.part if stage else 0.0)

    def _step(self, cohort: tuple[list[Member], Teaching]) -> float:
        self._steps(cohort, 1)
        times = [(self._seconds(cohort), self._seconds(self.alone)) for _ in range(self.config.repeats)]
        mine, alone = zip(*times, strict=True)
        return min(mine) / min(alone)  # what else the machine does only adds

    def _cohort(self, name: str) -> tuple[list[Member], Teaching]:
        """A student of a method, and its teacher."""
        config = self.config
        method = resolved(name, config.pair.name, self.specs)
        student = StudentConfig(method, config.pair, config.data, 0, config.train, LossConfig().resolve(method))
        members, teaching = build_cohort([student], self.specs, self.targets, 1, copy.deepcopy(self.teacher))
        members[0].begin_epoch(0, config.train.lr)
        return members, teaching

    def _seconds(self, cohort: tuple[list[Member], Teaching]) -> float:
        """Seconds of a step; on a CPU of its processor's time, which other work on the machine hardly touches."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        return seconds(lambda count: self._steps(cohort, count), STEPS, self.device, clock)

    def _steps(self, cohort: tuple[list[Member], Teaching], count: int) -> None:
        members, teaching = cohort
        for _ in range(count):
            train_step(members, teaching, dict.fromkeys(views_of(members), self.batch), step=0)


def resolved(name: str, pair: str, specs: Specs) -> MethodConfig:
    """A method's configuration for a pair: its paper's where that has one, else its defaults.

    Raises:
        InvalidSetting: it cannot serve the pair.
    """
    return configure(name).for_pair(pair, ()).resolve(*specs)


def refusals(info: DataInfo) -> dict[str, dict[str, str]]:
    """For each method the pairs that it cannot serve, and why."""
    specs = {network: feature_spec(network, info) for pair in PAIRS.values() for network in pair}
    found: dict[str, dict[str, str]] = {}
    for name in available():
        for pair, (teacher, student) in PAIRS.items():
            try:
                resolved(name, pair, (specs[student], specs[teacher]))
            except InvalidSetting as error:
                found.setdefault(name, {})[pair] = str(error)
    return found


def page(costs: dict[str, Cost | None], refused: dict[str, dict[str, str]], measured_on: str) -> str:
    """The page, in Markdown."""
    return "\n".join([*_head(measured_on), *_rows(costs, refused), "", *_stages(costs), *_reasons(refused)])


def _head(measured_on: str) -> Iterator[str]:
    yield "# Methods"
    yield ""
    yield "Written by `python -m benchmarks.method_table` from the registry and from measurements; a test compares"
    yield "it with the code. A method's file has its equations, shapes and deviations from the paper;"
    yield "`python -m benchmarks.run method=NAME help` shows its settings with their sources and search ranges."
    yield ""
    yield "*parameters*: what a method trains beside the student. *pairs*: how many of CRD's thirteen it can serve."
    yield "*step*: the time of a training step, relative to that of the student alone, with the teacher's forward"
    yield "pass and any further views of the batch, measured on"
    yield f"{measured_on}."
    yield ""
    yield "| method | knowledge | what it compares | paper | parameters | step | pairs |"
    yield "| --- | --- | --- | --- | ---: | ---: | ---: |"


def _rows(costs: dict[str, Cost | None], refused: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, cost in costs.items():
        method = get(name)
        reference = method.reference
        paper = f"[{reference.authors}, {reference.venue} {reference.year}]({reference.url})" if reference else ""
        figures = ("–", "–") if cost is None else (_count(cost.parameters), f"{cost.step:.1f} ×")
        served = f"{len(PAIRS) - len(refused.get(name, {}))} of {len(PAIRS)}"
        yield f"| {' | '.join((f'`{name}`', method.knowledge, method.summary, paper, *figures, served))} |"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 10_000 else f"{number:,}"


def _stages(costs: dict[str, Cost | None]) -> Iterator[str]:
    stages = [f"`{name}` {cost.before:.1%}" for name, cost in costs.items() if cost and cost.before]
    yield f"*step* leaves out a stage before the main training, which adds to its epochs: {', '.join(stages)}."
    yield ""


def _reasons(refused: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "Pairs that a method cannot serve:"
    yield ""
    for name, pairs in refused.items():
        pair, reason = next(iter(pairs.items()))
        yield f"- `{name}`: {', '.join(pairs)}; on {pair}, {reason}"
    yield ""


def measured_steps(page: str, measured_on: str) -> dict[str, float]:
    """The steps of a page by method, as of `Cost`; none if they were measured elsewhere."""
    return {name: float(step) for name, step in ROW.findall(page)} if f"\n{measured_on}.\n" in page else {}


def configured(typed: DictConfig, given: frozenset[str]) -> MethodTableConfig:
    """What was typed, with the values that are usual here and the protocol's, checked.

    Raises:
        UserError: a value that cannot work, naming its key.
    """
    for key, value in USUAL.items():
        if f"train.{key}" not in given:
            typed.train[key] = value
    fill_pair(typed.pair)
    fill_data(typed)
    fill_train(typed, typed.pair.student)
    config = OmegaConf.to_object(typed)
    assert isinstance(config, MethodTableConfig)
    check_bounds(config)
    check_train(config.train, given)
    optimizer = config.train.optimizer
    require(
        optimizer == Optimizer.sgd, f"train.optimizer={optimizer}: the student alone, and others, have sgd only"
    )
    return config


def execute(typed: DictConfig, given: frozenset[str]) -> int:
    """Measure and write."""
    config = configured(typed, given)
    train, out = config.train, Path(config.out)
    check_file("out", out)
    prepare_torch(train)
    bench, console = Bench(config), make_console()
    measured_on = f"{config.pair.name}, batch {train.batch_size}, {train.precision}, on {device_name(train)}"
    steps = {ALONE: 1.0}
    if out.is_file() and not config.rerun:
        steps |= measured_steps(out.read_text(encoding="utf-8"), measured_on)
    costs = {}
    for name in available():
        costs[name] = bench.cost(name, steps.get(name))
        if name not in steps:
            console.print(f"{name}: {costs[name]}")
    text = page(costs, refusals(data.INFO[config.data.name]), measured_on)
    write_text(out, text)
    console.print(f"written: {config.out}")
    return 0


COMMAND = Command(
    name="benchmarks.method_table",
    summary="write the page of all methods, with what they cost on a pair and the pairs that they cannot serve",
    examples=("python -m benchmarks.method_table", "python -m benchmarks.method_table pair=vgg13_vgg8 out=page.md"),
    config=MethodTableConfig,
    groups=lambda: {"pair": groups.pairs(), "data": groups.data_sets()},
    defaults={**groups.DEFAULTS, "pair": "vgg13_vgg8"},
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
