"""The end of a run: student, teacher, gain and the published figures, and where everything is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import metrics, published
from benchmarks.config import Device, Optimizer, RunConfig
from benchmarks.console import make_table
from benchmarks.published import Published
from benchmarks.results import Job, student_alone
from benchmarks.words import signed
from methods import ALONE


def print_results(console: Console, run: RunConfig, jobs: Sequence[Job]) -> None:
    """Print the table of results and what is behind it.

    Args:
        console: where to.
        run: the command's configuration.
        jobs: complete ones.
    """
    if not jobs:
        return
    alone, split = _alone(run, jobs), run.data.split
    figures = _figures(run, jobs) if split == "test" else {}  # which all published ones are of
    literature = ["published"] if figures else []
    table = make_table("", numbers=("top-1", "gain over alone", "best epoch", *literature))

    def add(label: str, name: str, top1: float | None, gain: str = "", best: str = "") -> None:
        table.add_row(name, _points(top1), gain, best, *(_top1(figures.get(label)) for _ in literature))

    add("teacher", f"teacher {run.pair.teacher}", _teacher(jobs))
    if all(job.config.method.name != ALONE for job in jobs):
        add(ALONE, f"student {run.pair.student} alone", alone)
    for job in jobs:
        top1 = _result(job, metrics.TOP1_LAST)
        is_alone = job.config.method.name == ALONE
        gain = "" if is_alone or alone is None else signed(top1 - alone)
        best = _points(_result(job, metrics.TOP1_BEST))
        add(job.config.label, _name(job, run), top1, gain, best)
    console.print(f"{run.pair.name} on {run.data.name}, seed {run.seed}: {split} top-1 in % after the last epoch")
    console.print(table)
    for source in sorted({figure.source for figure in figures.values()}):
        console.print(f"published, 240 epochs: {source}")
    if alone is None:
        alike = ""
        if run.train.optimizer == Optimizer.dot:  # which is never compiled, while on a GPU sgd may be
            launched = " train.compile=false" * (run.train.device == Device.cuda)
            alike = f" train.optimizer=sgd{launched} and no train.delta"
        console.print(f"the gain needs the student alone: run the same command with method=none{alike}")
    for job in jobs:
        _print_paths(console, job)


def _result(job: Job, name: str) -> float:
    assert job.result is not None
    return float(job.result["summary"][metrics.evaluation(job.config.data.split, name)])


def _name(job: Job, run: RunConfig) -> str:
    if job.config.method.name != ALONE:
        return job.config.label
    label = job.config.method.label
    return f"student {run.pair.student} alone" + (f" ({label})" if label else "")


def _alone(run: RunConfig, jobs: Sequence[Job]) -> float | None:
    """Top-1 of the student alone: of this command, else of an earlier one."""
    here = [_result(job, metrics.TOP1_LAST) for job in jobs if job.config.method.name == ALONE]
    return here[0] if here else student_alone(Path(run.output), jobs[0].config)


def _teacher(jobs: Sequence[Job]) -> float | None:
    measured = [job.result["summary"].get(metrics.TEACHER_TOP1) for job in jobs if job.result]
    return next((top1 for top1 in measured if top1 is not None), None)


def _figures(run: RunConfig, jobs: Sequence[Job]) -> dict[str, Published]:
    """Published figures by label; the literature's word for the student alone is student.

    A variant is another method, and so is one of other settings or another form than the published one: none is
    published of them.
    """
    names = {"teacher": "teacher", ALONE: "student"}
    configs = {
        job.config.label: job.result["config"]
        for job in jobs
        if job.result and job.config.method.name == job.config.label
    }
    found = {
        label: published.find(run.data.name, run.pair.teacher, run.pair.student, names.get(label, label))
        for label in [*names, *configs]
    }
    return {
        label: figure
        for label, figure in found.items()
        if figure and (label not in configs or figure.is_of(configs[label]))
    }


def _points(top1: float | None) -> str:
    return "–" if top1 is None else f"{top1:.2f}"


def _top1(figure: Published | None) -> str:
    return "" if figure is None else f"{figure.top1:.2f}"


def _print_paths(console: Console, job: Job) -> None:
    assert job.result is not None
    console.print(f"{job.config.label}: {job.folder.path}")
    if where := job.result["wandb"]:
        show = where if "://" in where else f"wandb leet {where}"
        console.print(f"  W&B: {show}")
