"""What a grid's plan says before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import teachers
from benchmarks.clock import duration
from benchmarks.files import FAILURE
from benchmarks.suite.overview import impossible
from benchmarks.suite.plan import Plan
from benchmarks.suite.work import CohortTask
from benchmarks.words import counted


def describe(plan: Plan, console: Console) -> None:
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
        console.print(f"what failed under this code is not tried again; deleting its {FAILURE} changes that")
    for line in impossible(reason for cohort in plan.cohorts for reason in cohort.impossible.values()):
        console.print(line)
    jobs = [cell.job for cell in cells if cell.job is not None]
    if stale := sum(job.of_other_code for job in jobs):
        edited = sum(job.of_other_method for job in jobs)
        own = f", {edited} of them of their method's own file" if edited else ""
        console.print(
            f"warning: {stale} of the complete runs are of another version of the code{own}", style="yellow"
        )
    if threads := plan.other_threads():
        console.print(
            f"note: runs of this grid are complete with train.threads={threads}; the number of threads can change "
            "a result in its last bits and belongs to a run's identity",
            style="yellow",
        )
    for remark in dict.fromkeys(_remarks(plan)):
        console.print(remark, style="yellow")
    if plan.tasks:
        _print_tasks(plan, console)


def _remarks(plan: Plan) -> Iterator[str]:
    """Of those that have a teacher, about its length."""
    for cell in plan.all_cells():
        if cell.student.needs and (remark := teachers.of_fewer_epochs(cell.run)):
            yield remark


def _print_tasks(plan: Plan, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("to train", "students", "about"):
        table.add_column(column, justify="right" if column == "about" else "left", overflow="fold")
    seconds = {task.name: plan.seconds(task) for task in plan.tasks}
    for task in plan.tasks:
        students = ", ".join(task.labels) if isinstance(task, CohortTask) else ""
        left = seconds[task.name]
        table.add_row(task.name, students, "unknown" if left is None else duration(left))
    console.print(table)
    known = [left for left in seconds.values() if left is not None]
    if not known:
        console.print("how long it takes is not known: nothing like it has been trained into this output yet")
        return
    num_unknown = len(seconds) - len(known)
    others = f", and {counted(num_unknown, 'task')} of unknown length" if num_unknown else ""
    console.print(
        f"about {duration(max(*known, sum(known) / plan.workers))} in all{others}, from measured throughput"
    )
