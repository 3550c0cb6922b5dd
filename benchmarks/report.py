"""The end of a run: student, teacher, gain and the published figures, and where everything is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import metrics, published
from benchmarks.config import RunConfig
from benchmarks.results import Job, student_alone


def print_results(console: Console, run: RunConfig, jobs: Sequence[Job], split: str) -> None:
    """Print the table of results and the paths behind it."""
    if not jobs:
        return
    alone = student_alone(Path(run.output), jobs[0].config, split)
    console.print(
        f"[bold]{run.pair.name} on {run.data.name}, seed {run.seed}[/]: {split} top-1 in % after the last epoch"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("top-1", "gain over alone", "best epoch", "published"):
        table.add_column(column, justify="right")
    teacher = [job.result["summary"].get(metrics.TEACHER_TOP1) for job in jobs if job.result]
    measured = next((top1 for top1 in teacher if top1 is not None), None)
    table.add_row(f"teacher {run.pair.teacher}", _points(measured), "", "", _published(run, "teacher"))
    if all(job.config.method.name != "none" for job in jobs):
        table.add_row(f"student {run.pair.student} alone", _points(alone), "", "", _published(run, "student"))
    for job in jobs:
        assert job.result is not None
        summary = job.result["summary"]
        top1 = summary[metrics.evaluation(split, metrics.TOP1_LAST)]
        is_alone = job.config.method.name == "none"
        gain = "" if is_alone or alone is None else f"{top1 - alone:+.2f}"
        best = summary[metrics.evaluation(split, metrics.TOP1_BEST)]
        name = f"student {run.pair.student} alone" if is_alone else job.config.label
        figure = _published(run, "student" if is_alone else job.config.method.name)
        table.add_row(name, f"[bold]{top1:.2f}[/]", gain, f"{best:.2f}", figure)
    console.print(table)
    _print_notes(console, run, jobs, alone)


def _points(top1: float | None) -> str:
    return "–" if top1 is None else f"{top1:.2f}"


def _published(run: RunConfig, method: str) -> str:
    figure = published.find(run.data.name, run.pair.teacher, run.pair.student, method)
    return "" if figure is None else f"{figure.top1:.2f}"


def _print_notes(console: Console, run: RunConfig, jobs: Sequence[Job], alone: float | None) -> None:
    sources = {
        figure.source
        for name in ("teacher", "student", *(job.config.method.name for job in jobs))
        if (figure := published.find(run.data.name, run.pair.teacher, run.pair.student, name))
    }
    for source in sorted(sources):
        console.print(f"published, 240 epochs: {source}")
    if alone is None:
        console.print("the gain needs the student alone: the same command with method=none")
    for job in jobs:
        assert job.result is not None
        console.print(f"{job.config.label}: {job.folder.path}")
        if where := job.result["wandb"]:
            console.print(f"  W&B: {where}")
            console.print(f"  look at it: wandb leet {where}")
