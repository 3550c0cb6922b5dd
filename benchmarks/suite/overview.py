"""How far a grid is, for people: a table that lives on a terminal, lines where there is none."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from benchmarks.clock import duration
from benchmarks.console import make_table
from benchmarks.suite.states import Grid, GridRow, Reader, Run, State
from benchmarks.words import counted

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 30.0  # about one row whose runs stay in their states

MARKS = {
    State.waiting: "·",
    State.training: "▸",
    State.interrupted: "‖",
    State.complete: "",
    State.failed: "✗",
    State.impossible: "–",
}
STYLES = {State.training: "cyan", State.failed: "red", State.impossible: "dim", State.waiting: "dim"}


def render(grid: Grid, brief: bool = False) -> RenderableType:
    """The whole grid.

    Args:
        grid: as it is.
        brief: of what is complete, say the range only; so that a large grid fits on a screen.
    """
    table = make_table()
    for name in ("", "runs", "trained", "images/s", "left"):
        table.add_column(name, justify="left" if name == "" else "right", no_wrap=True)
    table.add_column("top-1 in %", overflow="fold")
    for row in grid.rows:
        progress = "" if row.progress is None else f"{100 * row.progress:.0f} %"
        speed = f"{row.images_per_s:,.0f}" if row.images_per_s else ""
        left = "" if row.seconds_left is None else duration(row.seconds_left)
        table.add_row(row.name, _counted(row), progress, speed, left, _accuracies(row, brief))
    return Group(table, Text(summary(grid)))


def _counted(row: GridRow) -> str:
    possible = len(row.runs) - row.count(State.impossible)
    return f"{row.count(State.complete)}/{possible}"


def _accuracies(row: GridRow, brief: bool) -> Text:
    complete = [run.top1 for run in row.runs if run.state == State.complete and run.top1 is not None]
    if brief and len(complete) > 2 and row.count(State.complete, State.impossible) == len(row.runs):
        return Text(f"{min(complete):.2f} to {max(complete):.2f}")
    text = Text()
    for run in row.runs:
        text.append(describe(run), style=STYLES.get(run.state, ""))
        text.append("  ")
    return text


def describe(run: Run) -> str:
    """A run in a few characters: its label, a mark for its state, and what it reaches."""
    state = MARKS[run.state] + ("" if run.top1 is None else f"{run.top1:.2f}")
    return f"{run.label} {state}".replace(" ", "\N{NO-BREAK SPACE}")


def summary(grid: Grid) -> str:
    """The grid in one line."""
    runs = [run for row, run in grid.runs if not row.teacher]
    counts = [(state, sum(run.state == state for run in runs)) for state in State]
    words = ", ".join(f"{number} {state}" for state, number in counts if number)
    busy = any(run.state == State.training for _, run in grid.runs)
    left = f"; about {duration(grid.seconds_left)} left" if busy and grid.seconds_left else ""
    return f"{grid.title}: {words}{left}"


def legend() -> str:
    """What the marks mean."""
    return "  ".join(f"{mark} {state}" for state, mark in MARKS.items() if mark)


def notes(grid: Grid) -> list[str]:
    """Why runs failed or are impossible."""
    left_out = impossible(run.note for _, run in grid.runs if run.state == State.impossible)
    others = [(row, run) for row, run in grid.runs if run.note and run.state != State.impossible]
    return [*left_out, *(f"{row.name}, {run.label}: {run.state}: {run.note}" for row, run in others)]


def impossible(reasons: Iterable[str]) -> list[str]:
    """Why runs cannot be: a reason names method and pair, and is the same for all seeds."""
    return [f"impossible ({counted(times, 'run')}): {reason}" for reason, times in Counter(reasons).items()]


class Overview:
    """Shows a grid while it is worked on. A context.

    Args:
        reader: of the grid.
        console: where to.
    """

    def __init__(self, reader: Reader, console: Console) -> None:
        self.reader, self.console = reader, console
        rate = 1 / SECONDS_BETWEEN_LOOKS
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=rate, transient=True)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._print_changes, daemon=True)
        self.said: dict[str, tuple[list[State], float]] = {}  # of each row, and when

    def _render(self) -> RenderableType:
        return render(self.reader.read(), brief=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        else:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()
            return
        self.done.set()
        self.thread.join()
        self.say()

    def _print_changes(self) -> None:
        while not self.done.wait(SECONDS_BETWEEN_LOOKS):
            self.say()

    def say(self) -> None:
        """Print a line for each row that has changed."""
        for row in self.reader.read().rows:
            states, now = [run.state for run in row.runs], time.monotonic()
            before, when = self.said.get(row.name, ([], 0.0))
            goes_on = row.progress is not None and now - when > SECONDS_BETWEEN_LINES
            if states != before or goes_on:
                self.said[row.name] = states, now
                self.console.print(line(row))


def line(row: GridRow) -> str:
    """A row as one line."""
    parts = [f"{row.name}: {_counted(row)} complete"]
    if row.progress is not None:
        parts.append(f"{100 * row.progress:.0f} % trained")
    if row.images_per_s:
        parts.append(f"{row.images_per_s:,.0f} images/s")
    if row.seconds_left is not None:
        parts.append(f"{duration(row.seconds_left)} left")
    return ", ".join(parts) + "; " + "  ".join(describe(run) for run in row.runs)
