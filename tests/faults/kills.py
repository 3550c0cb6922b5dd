"""SIGKILL at random moments: what the same command makes of what is left equals what nothing disturbed.

A command runs in a fork of this process, so that a trial takes as long as its work, not as its imports. It is
killed with all that it started; then the same command goes on, to be killed again, until it ends by itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from commands import TINY, few_digits, merge, without_times
from safetensors.torch import load_file
from test_data import Copy

from analysis import table as table_command
from benchmarks import run as run_command
from benchmarks import teacher as teacher_command
from benchmarks.cli import main
from benchmarks.data import cifar100
from benchmarks.data.dataset import PARTS
from benchmarks.files import read_record
from benchmarks.suite.command import COMMAND as SUITE
from benchmarks.tensors import weights_sha256

FAILED = 70  # exit status of a fork that ended by an error


@dataclass(frozen=True)
class Workload:
    """What is killed.

    Attributes:
        work: does it all, in a folder; goes on with what it finds there. Returns the exit status.
        outcome: everything that it leaves and that must not depend on kills.
        prepare: puts what it needs into an empty folder.
    """

    work: Callable[[Path], int]
    outcome: Callable[[Path], Any]
    prepare: Callable[[Path], None] = lambda folder: None


@dataclass
class Record:
    """Kills of one workload, and what became of them."""

    tried: int = 0
    survived: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)


class Fork:
    """A workload in a process of its own, in a process group that is killed as one."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self.log = folder / "log.txt"
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run(workload, folder, self.log))

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status; None if it still works after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if end is not None and time.monotonic() > end:
                return None
            time.sleep(0.002)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _run(workload: Workload, folder: Path, log: Path) -> int:
    os.setpgid(0, 0)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        with few_digits():
            return workload.work(folder)
    except BaseException:
        traceback.print_exc()
        return FAILED


def undisturbed(workload: Workload, folder: Path) -> tuple[Any, float]:
    """The outcome without kills, and the seconds that it takes."""
    _fresh(workload, folder)
    started = time.monotonic()
    status = Fork(workload, folder).wait()
    if status != 0:
        raise AssertionError((folder / "log.txt").read_text())
    return workload.outcome(folder), time.monotonic() - started


def _fresh(workload: Workload, folder: Path) -> None:
    folder.mkdir(parents=True)
    workload.prepare(folder)


def try_kills(workload: Workload, folder: Path, kills: int, seed: int) -> Record:
    """Kill a workload at random moments, as often as `kills` says."""
    expected, seconds = undisturbed(workload, folder / "undisturbed")
    draw, record = random.Random(seed), Record()
    for place in _folders(folder):
        _fresh(workload, place)
        killed = _kill_until_done(workload, place, draw, seconds, kills - record.tried)
        record.tried += killed
        try:
            status = Fork(workload, place).wait()  # once more: it is complete, or goes on to be
            same = status == 0 and workload.outcome(place) == expected
        except Exception as error:
            status, same = f"{type(error).__name__}: {error}", False
        if same:
            record.survived += killed
        else:
            record.lost += 1
            record.notes.append(f"{place}: status {status}, or another outcome than undisturbed; see log.txt there")
        if record.tried >= kills:
            return record
    raise AssertionError("never")


def _folders(folder: Path) -> Iterator[Path]:
    number = 0
    while True:
        yield folder / f"killed{number}"
        number += 1


def _kill_until_done(workload: Workload, folder: Path, draw: random.Random, seconds: float, most: int) -> int:
    """Start and kill until it ends by itself, or has been killed `most` times; returns how often it was."""
    for killed in range(most):
        fork = Fork(workload, folder)
        if fork.wait(draw.uniform(0, 1.1 * seconds)) is not None:
            return killed
        fork.kill()
    return most


# --- what is killed


def _words(folder: Path) -> list[str]:
    return [
        *merge(TINY, ["train.epochs=3", "train.max_steps=4", "train.milestones=[1]", "tracking.mode=offline"]),
        f"output={folder / 'runs'}",
        f"data.cache={folder / 'cache'}",
        "checkpoint.every_steps=2",
    ]


def _cohort(folder: Path) -> int:
    """Teacher, then two students with a memory bank and adaptive weights."""
    return main(run_command.COMMAND, [*_words(folder), "methods=[crd,aftkd]"])


def _teacher(folder: Path) -> int:
    words = ["network=resnet8", "data=digits", "train.epochs=3", "train.max_steps=6", "train.threads=1"]
    words += [f"output={folder / 'runs'}", "checkpoints.every_steps=2", "train.precision=fp32"]
    return main(teacher_command.COMMAND, words)


def _suite(folder: Path) -> int:
    """Two seeds of three students."""
    words = [word for word in _words(folder) if not word.startswith("pair")]
    return main(
        SUITE, [*words, "methods=[none,kd,aftkd]", "pairs=[{teacher: resnet8, student: resnet8}]", "seeds=[0,1]"]
    )


def _decode(folder: Path) -> int:
    for part in PARTS:
        cifar100.load(folder / "data", folder / "cache", part)
    return 0


def _data(folder: Path) -> None:
    (folder / "data").mkdir()
    copy = Copy()
    for part in PARTS:
        pq.write_table(copy.table(part), folder / "data" / f"{part}.parquet")


def results(folder: Path) -> dict[str, Any]:
    """Weights and history of every run and teacher below a folder, and the table that the logs make."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("runs/**/*.safetensors")):
        found[path.relative_to(folder).as_posix()] = weights_sha256(load_file(path))
    for path in sorted([*folder.rglob("result.json"), *folder.rglob("card.json")]):
        found[path.relative_to(folder).as_posix()] = without_times(read_record(path)["history"])
    assert found
    halves = [path.name for path in folder.rglob("runs/**/*") if path.suffix == ".pt" or path.name.startswith(".")]
    assert set(halves) <= {".lock"}, f"left behind: {halves}"
    return found


def results_and_table(folder: Path) -> dict[str, Any]:
    """The same, and the table that the logs make, which a kill may have torn."""
    out = folder / "table.csv"
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(table_command.COMMAND, [f"source={folder / 'runs'}", f"out={out}"]) == 0
    return results(folder) | {"table": out.read_text()}


def _decoded(folder: Path) -> Any:
    cached = sorted((folder / "cache").glob("cifar100*"))
    assert len(cached) == len(PARTS)
    return [weights_sha256(load_file(path)) for path in cached]


WORKLOADS = {
    "run": Workload(_cohort, results_and_table),
    "suite": Workload(_suite, results_and_table),
    "teacher": Workload(_teacher, results),
    "cache": Workload(_decode, _decoded, _data),
}
