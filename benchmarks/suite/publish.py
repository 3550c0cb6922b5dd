"""Writes a grid's plan down, for all who want to know how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.files import write_record
from benchmarks.hashing import short_hash
from benchmarks.identity import code_version
from benchmarks.suite.plan import Cell, Plan, task_of_teacher
from benchmarks.suite.states import PLAN
from benchmarks.suite.tasks import TEACHER
from benchmarks.teachers import TeacherPlan


def publish(plan: Plan) -> None:
    """Write the plan as it is now: every run with its folder, as far as it is known, and its task."""
    content = {
        "title": plan.title,
        "workers": plan.workers,
        "sources": code_version()["sources"],
        "tasks": {task.name: {**vars(plan.effort(task)), "seconds": plan.seconds(task)} for task in plan.tasks},
        "rows": [*_teachers(plan), *_cohorts(plan)],
    }
    write_record(plan.place / PLAN, content)


def _teachers(plan: Plan) -> Iterator[dict[str, Any]]:
    """The store's teachers that the grid needs, there or not."""
    runs = [
        cell.run for cell in plan.all_cells() if cell.student.has_teacher and cell.run.teacher.checkpoint is None
    ]
    for folder, teacher in {each.folder: each for each in map(TeacherPlan.of, runs)}.items():
        task = task_of_teacher(teacher)
        entry = _entry(plan, TEACHER, folder.name, task if task in plan.teacher_tasks else None, folder)
        entry["failure"] = plan.failed_teachers.get(task)
        yield {"name": f"teacher {teacher.network} seed {teacher.seed}", "teacher": True, "runs": [entry]}


def _cohorts(plan: Plan) -> Iterator[dict[str, Any]]:
    for cohort in plan.cohorts:
        runs = [_run(plan, cell) for cell in plan.cells[cohort.name]]
        for label, reason in cohort.impossible.items():
            runs.append(_entry(plan, label, short_hash([cohort.name, label])) | {"impossible": reason})
        yield {"name": cohort.name, "teacher": False, "runs": runs}


def _run(plan: Plan, cell: Cell) -> dict[str, Any]:
    folder = cell.job.folder.path if cell.job else None
    return _entry(plan, cell.variant.label, cell.id, cell.task, folder) | {"failure": cell.failure}


def _entry(
    plan: Plan, label: str, identifier: str, task: str | None = None, folder: Path | None = None
) -> dict[str, Any]:
    place = None if folder is None else os.path.relpath(folder, plan.output)
    return {"label": label, "id": identifier, "task": task, "folder": place, "failure": None, "impossible": None}
