"""How far a grid is, read from its plan and the folders of its runs; without torch, so that it is there at once.

A run's folder tells its state: `result.json` when it is complete, `failure.json` when it failed, a lock while a
process trains it, checkpoints when it was interrupted. What else is known of a task stands in its progress file.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks import metrics
from benchmarks.files import CARD, FAILURE, LOCK, RESULT, read_record, record_at

FOLDER = "suites"  # in `output`
PLAN, LOG, PROGRESS = "plan.json", ".log", ".progress.json"


class State(StrEnum):
    waiting = "waiting"
    training = "training"
    interrupted = "interrupted"
    complete = "complete"
    failed = "failed"
    impossible = "impossible"


@dataclass(frozen=True)
class Run:
    """One run of a grid, or a teacher.

    Attributes:
        label: of the student; "teacher" of a teacher.
        state: of it.
        top1: in percent, the last that is known.
        note: why it failed or is impossible.
    """

    label: str
    state: State
    top1: float | None = None
    note: str = ""


@dataclass(frozen=True)
class GridRow:
    """A teacher, or a pair and seed.

    Attributes:
        name: for people.
        teacher: which of the two it is.
        runs: of its methods; of a teacher, itself.
        progress: from 0 to 1, of what is being trained; None where nothing is.
        images_per_s: of all its tasks that are being trained.
        seconds_left: of those, where it is known.
    """

    name: str
    teacher: bool
    runs: tuple[Run, ...]
    progress: float | None = None
    images_per_s: float = 0.0
    seconds_left: float | None = None

    def count(self, *states: State) -> int:
        """How many runs are in one of the states."""
        return sum(run.state in states for run in self.runs)


@dataclass(frozen=True)
class Grid:
    """How far a grid is.

    Attributes:
        title: name of the grid.
        rows: teachers first.
        seconds_left: until all is done; None where it is not known.
    """

    title: str
    rows: tuple[GridRow, ...]
    seconds_left: float | None

    @property
    def runs(self) -> list[tuple[GridRow, Run]]:
        """Every run with its row."""
        return [(row, run) for row in self.rows for run in row.runs]


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`; the operating system lets go of a dead process's locks.

    It is asked for a share of the lock, for which reading is enough: the file may be somebody else's, and who looks
    is no holder to others who look.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is closed to us
        return False


def plans(output: Path) -> list[Path]:
    """The plans of an output folder, oldest first; without those that a later one contains."""
    found = sorted((output / FOLDER).glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime)
    contents = [_ids(path) for path in found]
    return [
        path
        for k, path in enumerate(found)
        if contents[k] and not any(contents[k] <= later for later in contents[k + 1 :])
    ]


def _ids(path: Path) -> set[str]:
    return {run["id"] for row in record_at(path).get("rows", []) for run in row["runs"]}


class Reader:
    """Reads how far the grid of a plan is, again and again.

    Args:
        plan: its file.
        output: the folder that the runs' places are relative to.
    """

    def __init__(self, plan: Path, output: Path) -> None:
        self.plan, self.output = plan, output
        self._ended: dict[Path, Run] = {}  # what no longer changes
        self._sources: str | None = None  # version of the code that made the plan

    def read(self) -> Grid:
        """The grid as it is now."""
        content = record_at(self.plan) or {"title": "", "rows": [], "tasks": {}, "workers": 1}
        progress = {name: record_at(self.plan.parent / f"{name}{PROGRESS}") for name in content["tasks"]}
        self._sources = content.get("sources")
        rows = tuple(self._row(row, progress) for row in content["rows"])
        return Grid(content["title"], rows, _seconds_left(content, rows, progress))

    def _row(self, row: dict[str, Any], progress: dict[str, Any]) -> GridRow:
        runs = tuple(self._run(run, progress.get(run["task"], {})) for run in row["runs"])
        tasks = {run["task"] for run, now in zip(row["runs"], runs, strict=True) if now.state == State.training}
        going = [progress[task] for task in sorted(tasks & progress.keys()) if progress[task]]
        if not going:
            return GridRow(row["name"], row["teacher"], runs)
        steps, total = (sum(each[key] for each in going) for key in ("step", "num_steps"))
        left = [each["seconds_left"] for each in going if each["seconds_left"] is not None]
        speed = sum(each["images_per_s"] for each in going)
        return GridRow(row["name"], row["teacher"], runs, steps / total, speed, max(left, default=None))

    def _run(self, run: dict[str, Any], progress: dict[str, Any]) -> Run:
        label = run["label"]
        if run["impossible"]:
            return Run(label, State.impossible, note=run["impossible"])
        folder = None if run["folder"] is None else self.output / run["folder"]
        if folder in self._ended:
            return self._ended[folder]
        if folder is not None and (ended := _ended(folder, label)):
            return self._ended.setdefault(folder, ended)
        if folder is not None and is_locked(folder / LOCK):
            return Run(label, State.training, progress.get("top1", {}).get(label))
        if run["failure"]:
            return Run(label, State.failed, note=run["failure"])
        failure = record_at(folder / FAILURE) if folder else {}
        if failure and failure.get("sources") == self._sources:
            return Run(label, State.failed, note=str(failure.get("failure")))
        begun = folder is not None and any(folder.glob("checkpoint-*"))
        return Run(label, State.interrupted if begun else State.waiting)


def _ended(folder: Path, label: str) -> Run | None:
    """A complete run or teacher; None while it is neither."""
    for path in (folder / CARD, folder / RESULT):
        try:
            record = read_record(path)
            of_teacher = path.name == CARD
            top1 = record["top1"] if of_teacher else metrics.top1_of(record["summary"], metrics.TOP1_LAST)[1]
            return Run(label, State.complete, float(top1))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError, StopIteration) as error:
            return Run(label, State.failed, note=f"{path} is damaged ({error})")
    return None


def _seconds_left(content: dict[str, Any], rows: Iterable[GridRow], progress: dict[str, Any]) -> float | None:
    """From what running tasks say of themselves; of the others from the plan's estimate, or the rate of those."""
    states: dict[str, set[State]] = {}
    for row, now in zip(content["rows"], rows, strict=True):
        for run, state in zip(row["runs"], now.runs, strict=True):
            states.setdefault(run["task"], set()).add(state.state)
    tasks = content["tasks"]
    rates = [each["images_per_s"] * tasks[name]["macs_per_image"] for name, each in progress.items() if each]
    left = [
        _left_of(task, states.get(name, set()), progress[name], max(rates, default=0.0))
        for name, task in tasks.items()
    ]
    if not left or None in left:
        return None
    seconds = [each for each in left if each is not None]
    at_once = sum(State.training in each for each in states.values())  # a cluster's size is Ray's to know
    return max(*seconds, sum(seconds) / max(at_once, content["workers"]))


def _left_of(task: dict[str, Any], states: set[State], progress: dict[str, Any], rate: float) -> float | None:
    if State.training in states and progress.get("seconds_left") is not None:
        return float(progress["seconds_left"])
    if not states & {State.waiting, State.interrupted, State.training}:
        return 0.0
    if task["seconds"] is not None:
        return float(task["seconds"])
    return float(task["macs"]) / rate if rate else None
