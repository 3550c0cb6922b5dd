"""`python -m benchmarks.suite`: a grid of runs, planned, trained and shown; what is complete is not repeated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks import data, groups
from benchmarks.checks import check_bounds
from benchmarks.cli import Command
from benchmarks.config import RunConfig
from benchmarks.console import make_console
from benchmarks.errors import Interrupted, RunFailed, require
from benchmarks.files import check_writable
from benchmarks.protocol import fill_threads
from benchmarks.suite import named_grids, overview
from benchmarks.suite.announce import announce
from benchmarks.suite.cluster import Cluster
from benchmarks.suite.config import OF_LAUNCH, LauncherKind, SuiteConfig
from benchmarks.suite.grid import cohorts
from benchmarks.suite.local import Pool, one_by_one
from benchmarks.suite.plan import Plan
from benchmarks.suite.publish import publish
from benchmarks.suite.states import PLAN, Reader
from benchmarks.suite.tasks import CohortTask, Outcome, Task
from benchmarks.tracking import check_tracking
from benchmarks.training.checkpoints import delete_leftovers
from benchmarks.variants import refuse_dead
from benchmarks.words import counted

EXAMPLES = (
    "python -m benchmarks.suite suite=smoke",
    "python -m benchmarks.suite 'methods=[none,kd,aftkd]' 'seeds=[0,1,2]' data=digits dry_run=true",
    "python -m benchmarks.suite suite=crd_table 'methods=[none,kd,crd,aftkd]' launcher=ray address=auto gpus=0.5",
)

Launch = Callable[[Sequence[Task]], Iterator[tuple[Task, Outcome]]]


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    settings = _settings(config, given)
    grid = cohorts(config, given)
    run, console = grid[0].run, make_console()
    plan = Plan(settings, grid, sharing=_sharing(settings, run))
    announce(plan, console)
    if settings.dry_run:
        return 0
    check_writable("output", plan.output)
    delete_leftovers(cell.job.folder.path for cell in plan.all_cells() if cell.job and cell.complete)
    reader = Reader(plan.place / PLAN, plan.output)
    if plan.tasks:
        check_tracking(run.tracking)
        data.load(run.data)  # it is there
        _train(plan, settings, reader, console)
    publish(plan)
    return _conclude(plan, reader, console)


def _settings(config: DictConfig, given: frozenset[str]) -> SuiteConfig:
    """How the grid is trained; fills in the number of threads, which depends on that."""
    settings = SuiteConfig(**{name: config[name] for name in OF_LAUNCH})
    check_bounds(settings)
    gpus = settings.gpus or 0.0
    require(gpus <= 1 or gpus.is_integer(), f"gpus={gpus:g}: Ray gives a task a part of a GPU, or whole ones")
    refuse_dead(settings, given, "")
    fill_threads(config.train, settings.workers)
    return settings


def _sharing(settings: SuiteConfig, run: RunConfig) -> float:
    """How many tasks share a GPU."""
    if run.train.device != "cuda":
        return 1
    if settings.launcher == LauncherKind.ray:
        require(settings.gpus != 0, "gpus=0: tasks train on a GPU; leave gpus out, or set train.device=cpu")
        return 1 / min(settings.gpus or 1, 1)
    return math.ceil(settings.workers / torch.cuda.device_count())


def _train(plan: Plan, settings: SuiteConfig, reader: Reader, console: Console) -> None:
    """Do the plan's tasks, shown while they are done."""
    try:
        with _launcher(plan, settings) as launch:
            publish(plan)
            with overview.Overview(reader, console):
                _do(plan, launch, console)
    except Interrupted:
        again = ", and trains again what is complete (rerun=true)" if settings.rerun else ""
        console.print(f"interrupted; what was trained is saved: the same command continues{again}")
        raise


@contextmanager
def _launcher(plan: Plan, settings: SuiteConfig) -> Iterator[Launch]:
    """What does tasks and tells how they ended."""
    if settings.launcher == LauncherKind.ray:
        with Cluster(settings, plan.cohorts[0].run) as cluster:
            yield lambda tasks: cluster.run(tasks, plan.place)
    elif settings.workers == 1:
        yield lambda tasks: one_by_one(tasks, plan.place)
    else:
        yield Pool(settings.workers, plan.place)


def _do(plan: Plan, launch: Launch, console: Console) -> None:
    """Do the plan's tasks, then what other processes left of theirs."""
    todo = plan.tasks
    while todo:
        taken: list[Task] = []
        for task, outcome in launch(todo):
            plan.note(task, outcome)
            publish(plan)
            for why in outcome.split:  # it costs time, and what failed may be worth a look
                console.print(f"note: {task.name}: {why}")
            if isinstance(task, CohortTask) and outcome.taken:
                taken.append(task.waiting_for(outcome.taken))
        todo = taken


def _conclude(plan: Plan, reader: Reader, console: Console) -> int:
    """Show what there is now.

    Raises:
        RunFailed: some of it failed.
    """
    console.print(overview.render(reader.read()))
    failed = [f"{cell.name}: {cell.failure}" for cell in plan.all_cells() if cell.failure]
    if failed:
        raise RunFailed("\n".join([counted(len(failed), "run"), *failed, f"logs: {plan.place}"]))
    return 0


def _overview(command: Command) -> str:
    lines = [f"python -m {command.name}: {command.summary}", "", "Named grids (suite=…):"]
    lines += [f"  {name:16} {grid.summary}" for name, grid in named_grids.NAMED_GRIDS.items()]
    lines += ["", "Methods, pairs and data sets: python -m benchmarks.run", "", "Examples:"]
    lines += [f"  {example}" for example in command.examples]
    return "\n".join([*lines, "", f"python -m {command.name} help shows all settings."])


COMMAND = Command(
    name="benchmarks.suite",
    summary="a grid of runs, methods × pairs × seeds, in one command that can be stopped, continued and extended",
    examples=EXAMPLES,
    config=SuiteConfig,
    groups=lambda: {"data": groups.data_sets(), "suite": named_grids.options()},
    defaults=groups.DEFAULTS,
    run=execute,
    overview=_overview,
)
