"""SIGKILL at random moments: what the same command makes of what is left equals what nothing disturbed.

A command runs in a fork of this process, so that a trial takes as long as its work, not as its imports. It is
killed with all that it started; then the same command goes on, to be killed again, until it ends by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import few_digits

FAILED = 70  # exit status of a fork that ended by an error


@dataclass(frozen=True)
class Workload:
    """What is killed.

    Attributes:
        work: does it all, in a folder; goes on with what it finds there. Returns the exit status.
        outcome: everything that it leaves and that must not depend on kills.
        prepare: puts what it needs into an empty folder.
        most: kills of one folder.
    """

    work: Callable[[Path], int]
    outcome: Callable[[Path], Any]
    prepare: Callable[[Path], None] = lambda folder: None
    most: int = 1000


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


@few_digits()  # here: each fork would read them anew
def try_kills(workload: Workload, folder: Path, kills: int, seed: int) -> Record:
    """Kill a workload at random moments, as often as `kills` says."""
    expected, seconds = undisturbed(workload, folder / "undisturbed")
    draw, record = random.Random(seed), Record()
    for number in itertools.count():
        place = folder / f"killed{number}"
        _fresh(workload, place)
        most = min(workload.most, kills - record.tried)
        killed = _kill_until_done(workload, place, draw, seconds, most)
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
            break
    return record


def _kill_until_done(workload: Workload, folder: Path, draw: random.Random, seconds: float, most: int) -> int:
    """Start and kill until it ends by itself, or has been killed `most` times; returns how often it was."""
    for killed in range(most):
        fork = Fork(workload, folder)
        if fork.wait(draw.uniform(0, 1.1 * seconds)) is not None:
            return killed
        fork.kill()
    return most
