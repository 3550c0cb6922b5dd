"""What is said of a grid whose plan and run folders are as they may be found."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from light import assert_light
from rich.console import Console

from benchmarks import status
from benchmarks.cli import main
from benchmarks.files import write_record
from benchmarks.suite import overview
from benchmarks.suite.overview import Overview, line, render, summary
from benchmarks.suite.states import FOLDER, PLAN, Grid, GridRow, Reader, Run, State, is_locked, plans

TASK = {"macs": 1000, "macs_per_image": 10, "seconds": None}


def entry(label, **changed):
    known = {"label": label, "id": label, "task": "task", "folder": f"pair/{label}/0", "failure": None}
    return known | {"impossible": None} | changed


def put(output, *runs, name="grid", tasks=("task",), **changed):
    """A plan of one pair; gives its reader."""
    row = {"name": "pair seed 0", "teacher": False, "runs": list(runs)}
    content = {"title": name, "workers": 1, "tasks": dict.fromkeys(tasks, TASK), "rows": [row]} | changed
    write_record(output / FOLDER / name / PLAN, content)
    return Reader(output / FOLDER / name / PLAN, output)


def complete(output, label, top1):
    write_record(output / "pair" / label / "0" / "result.json", {"summary": {"test/top1_last": top1}})


def progress(output, name="grid", task="task", **changed):
    content = {"step": 30, "num_steps": 40, "images_per_s": 50.0, "seconds_left": 8.0, "top1": {"b": 61.5}}
    write_record(output / FOLDER / name / f"{task}.progress.json", content | changed)


def test_the_state_of_a_run_is_read_from_its_folder(tmp_path):
    reader = put(
        tmp_path,
        entry("a"),
        entry("b"),
        entry("c"),
        entry("d"),
        entry("e", folder=None),
        entry("f", failure="its process ended by signal 9"),
        entry("g", impossible="no such stage", folder=None, task=None),
        entry("h"),
        entry("i"),
        sources="x",
    )
    complete(tmp_path, "a", 74.25)
    for label in "bc":
        (tmp_path / "pair" / label / "0").mkdir(parents=True)
    (tmp_path / "pair" / "c" / "0" / "checkpoint-00000010.pt").touch()
    (tmp_path / "pair" / "c" / "0" / ".lock").touch()  # of a process that has died
    write_record(tmp_path / "pair" / "d" / "0" / "failure.json", {"failure": "ce is not finite", "sources": "x"})
    write_record(tmp_path / "pair" / "i" / "0" / "failure.json", {"failure": "a bug, mended", "sources": "w"})
    progress(tmp_path)
    with FileLock(tmp_path / "pair" / "b" / "0" / ".lock"):
        (row,) = reader.read().rows
    found = {run.label: (run.state, run.top1, run.note) for run in row.runs}
    assert found == {
        "a": (State.complete, 74.25, ""),
        "b": (State.training, 61.5, ""),
        "c": (State.interrupted, None, ""),
        "d": (State.failed, None, "ce is not finite"),
        "e": (State.waiting, None, ""),
        "f": (State.failed, None, "its process ended by signal 9"),
        "g": (State.impossible, None, "no such stage"),
        "h": (State.waiting, None, ""),
        "i": (State.waiting, None, ""),
    }
    assert (row.progress, row.images_per_s, row.seconds_left) == (0.75, 50.0, 8.0)
    (row,) = reader.read().rows  # its process has gone
    assert row.runs[1].state == State.waiting
    assert row.progress is None


def test_why_runs_are_impossible_is_said_once_and_why_they_failed_each_time():
    runs = (Run("kd", State.failed, note="boom"), Run("fsp", State.impossible, note="fsp on pair: widths"))
    rows = tuple(GridRow(f"pair seed {seed}", False, runs) for seed in range(3))
    impossible, *failed = overview.notes(Grid("grid", rows, None))
    assert impossible == "impossible (3 runs): fsp on pair: widths"
    assert failed == [f"pair seed {seed}, kd: failed: boom" for seed in range(3)]


def test_a_run_that_failed_and_is_complete_by_now_is_complete(tmp_path):
    reader = put(tmp_path, entry("a", failure="its process ended"))
    complete(tmp_path, "a", 50.0)
    assert reader.read().rows[0].runs[0].state == State.complete


def looks(path, seconds=1.0):
    """What a process sees that looks at a lock again and again, as `benchmarks.status` does."""
    end, seen = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        seen.add(is_locked(path))
    return seen


def test_who_looks_is_not_taken_for_a_process_at_work(tmp_path):
    path = tmp_path / ".lock"
    path.touch()
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(looks, [path] * 2)) == [{False}] * 2


def test_what_somebody_else_trains_is_seen_at_work(tmp_path):
    """Where this user may read the folders of runs only."""
    path, opened = tmp_path / ".lock", os.open

    def read_only(file, flags, *arguments, **settings):
        if Path(os.fsdecode(file)) == path and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
        return opened(file, flags, *arguments, **settings)

    with FileLock(path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", read_only)
        assert is_locked(path)
    assert not is_locked(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"summary": {"test/top1_last": 99.9}}', '{"status": 1}'])
def test_a_damaged_result_is_no_number(text, tmp_path):
    reader = put(tmp_path, entry("a"))
    path = tmp_path / "pair" / "a" / "0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (run,) = reader.read().rows[0].runs
    assert (run.state, run.top1) == (State.failed, None)
    assert str(path) in run.note


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": 3}', '{"rows": [{"runs": [{}]}]}'])
def test_a_damaged_plan_is_not_shown(text, tmp_path, capsys):
    path = tmp_path / FOLDER / "x" / PLAN
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert main(status.COMMAND, [f"output={tmp_path}"]) == 0
    shown = capsys.readouterr()
    assert "no grid" in shown.out
    assert "Traceback" not in shown.err


def test_time_left_is_from_what_tasks_say_and_from_the_rate_of_those(tmp_path):
    runs = (entry("a"), entry("b", task="other"), entry("c", task="done"))
    reader = put(tmp_path, *runs, tasks=("task", "other", "done"))
    complete(tmp_path, "c", 50.0)
    assert reader.read().seconds_left is None  # nothing is known of how fast it goes
    progress(tmp_path)
    (tmp_path / "pair" / "a" / "0").mkdir(parents=True)
    with FileLock(tmp_path / "pair" / "a" / "0" / ".lock"):
        grid = reader.read()
    assert grid.seconds_left == pytest.approx(8 + 1000 / (50 * 10))
    assert "about 10 s left" in summary(grid)


def test_tasks_that_run_at_once_end_at_once(tmp_path):
    """On a cluster, whose number of workers the plan does not know."""
    reader = put(tmp_path, entry("a"), entry("b", task="other"), tasks=("task", "other"))
    with contextlib.ExitStack() as stack:
        for label, task in (("a", "task"), ("b", "other")):
            progress(tmp_path, task=task)
            folder = tmp_path / "pair" / label / "0"
            folder.mkdir(parents=True)
            stack.enter_context(FileLock(folder / ".lock"))
        assert reader.read().seconds_left == pytest.approx(8)


def test_only_grids_that_no_later_one_contains_are_shown(tmp_path, capsys):
    put(tmp_path, entry("a"), name="first")
    put(tmp_path, entry("z"), name="other")
    put(tmp_path, entry("a"), entry("b"), name="second")
    for moment, name in enumerate(("first", "other", "second")):
        os.utime(tmp_path / FOLDER / name / PLAN, (moment, moment))
    assert [path.parent.name for path in plans(tmp_path)] == ["other", "second"]
    assert main(status.COMMAND, [f"output={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "other: 1 waiting" in shown
    assert "second: 2 waiting" in shown
    assert "first" not in shown


def test_status_where_there_is_nothing(tmp_path, capsys):
    assert main(status.COMMAND, [f"output={tmp_path}/none"]) == 0
    assert "no grid" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_status_needs_no_torch():
    assert_light({"torch", "ray"}, "import benchmarks.status")


def rendered(grid, **options):
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(render(grid, **options))
    return capture.get()


def test_the_table_shows_every_run_and_a_complete_row_of_a_large_grid_in_brief(tmp_path):
    labels = [f"method{k}" for k in range(40)]
    reader = put(tmp_path, *(entry(label) for label in labels))
    for k, label in enumerate(labels):
        complete(tmp_path, label, 60 + k / 10)
    whole = rendered(reader.read()).replace("\N{NO-BREAK SPACE}", " ")
    for k, label in enumerate(labels):
        assert f"{label} {60 + k / 10:.2f}" in whole
    assert "60.00 to 63.90" in rendered(reader.read(), brief=True)
    assert "40/40" in whole


def test_lines_appear_when_something_changes_and_only_then(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(overview.time, "monotonic", lambda: now[0])
    reader = put(tmp_path, entry("a"), entry("b"))
    console = Console(width=100, force_terminal=False, record=True)
    shown = Overview(reader, console)
    (tmp_path / "pair" / "b" / "0").mkdir(parents=True)
    counts = []

    def look():
        shown.say()
        counts.append(len(console.export_text(clear=False).splitlines()))

    look()
    look()  # nothing new
    with FileLock(tmp_path / "pair" / "b" / "0" / ".lock"):
        progress(tmp_path)
        look()
        now[0] += 1
        progress(tmp_path, step=35)
        look()  # it goes on, which needs no line each second
        now[0] += 60
        look()
        progress(tmp_path, seconds_left=None)
        assert line(reader.read().rows[0]).startswith("pair seed 0: 0/2 complete, 75 % trained, 50 images/s; a")
    assert counts == [1, 1, 2, 2, 3]


def test_brackets_in_labels_are_shown_as_they_are(tmp_path):
    assert "[red]a[/red]" in rendered(put(tmp_path, entry("[red]a[/red]")).read())
