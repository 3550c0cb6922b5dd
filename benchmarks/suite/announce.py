"""What a grid's plan says before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console

from benchmarks import teachers
from benchmarks.clock import duration
from benchmarks.console import make_table, note, warn
from benchmarks.files import FAILURE
from benchmarks.suite.overview import impossible
from benchmarks.suite.plan import Plan
from benchmarks.suite.tasks import CohortTask


def announce(plan: Plan, console: Console) -> None:
    """Say what there is to do, and about how long it takes."""
    cells = list(plan.all_cells())
    counts = {
        "runs": len(cells),
        "complete": sum(cell.complete for cell in cells),
        "to train": sum(cell.task is not None for cell in cells),
        "failed before": sum(cell.failure is not None for cell in cells),
        "impossible": sum(len(cohort.impossible) for cohort in plan.cohorts),
    }
    words = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    console.print(f"{plan.title}: {words}", style="bold")
    if counts["failed before"]:
        console.print(f"runs that failed under this code are not tried again unless you delete their {FAILURE}")
    for line in impossible(reason for cohort in plan.cohorts for reason in cohort.impossible.values()):
        console.print(line)
    _remark(plan, console)
    if plan.tasks:
        _print_tasks(plan, console)


def _remark(plan: Plan, console: Console) -> None:
    """What whoever reads the results should know."""
    jobs = [cell.job for cell in plan.all_cells() if cell.job is not None]
    if stale := sum(job.of_other_code for job in jobs):
        edited = [job.other_files for job in jobs if job.other_files]
        files = " or ".join(dict.fromkeys(itertools.chain(*edited)))
        own = f", {len(edited)} of them by another version of the {files}" if edited else ""
        warn(console, f"{stale} of the complete runs were trained by another version of the code{own}")
    if threads := plan.other_threads():
        what = f"runs of this grid are complete with train.threads={threads}"
        why = "the number of threads can change a result in its last bits and belongs to a run's identity"
        note(console, f"{what}; {why}")
    remarks = (teachers.remarks(cell.run) for cell in plan.all_cells() if cell.student.has_teacher)
    for remark in dict.fromkeys(itertools.chain.from_iterable(remarks)):
        note(console, remark)


def _print_tasks(plan: Plan, console: Console) -> None:
    table = make_table()
    for column in ("to train", "students", "about"):
        table.add_column(column, justify="right" if column == "about" else "left", overflow="fold")
    seconds = {task.name: plan.seconds(task) for task in plan.tasks}
    for task in plan.tasks:
        students = ", ".join(task.labels) if isinstance(task, CohortTask) else ""
        left = seconds[task.name]
        table.add_row(task.name, students, "unknown" if left is None else duration(left))
    console.print(table)
    console.print(_in_all(list(seconds.values()), plan.workers))


def _in_all(seconds: Sequence[float | None], workers: int) -> str:
    """How long tasks take together, and what that leaves out; no sum where that is known of some of them only."""
    known = [each for each in seconds if each is not None]
    if len(known) == len(seconds):
        return (
            f"about {duration(max(*known, sum(known) / workers))} of training and evaluation in all, from measured "
            "throughput; start-up, checks, results and logs are extra"
        )
    what = f"{len(seconds) - len(known)} of the {len(seconds)} tasks" if known else "these tasks"
    return f"time in all unknown: nothing similar to {what} has been trained in this output folder yet"
