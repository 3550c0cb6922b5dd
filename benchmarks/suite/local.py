"""Trains a grid's tasks on this machine: one after the other here, or several at a time in own processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from benchmarks.errors import Interrupted
from benchmarks.processes import settle, start
from benchmarks.suite.states import LOG
from benchmarks.suite.tasks import Outcome, Task, behind
from benchmarks.training.signals import Interruption

SECONDS_BETWEEN_LOOKS = 0.5  # at signals


def one_by_one(tasks: Sequence[Task], place: Path) -> Iterator[tuple[Task, Outcome]]:
    """Do the tasks in this process; gives each with how it ended.

    Raises:
        Interrupted: by a signal; everything is saved.
    """
    ended: dict[str | None, Outcome] = {}
    for task in tasks:
        ended[task.name] = outcome = behind(ended.get(task.after), task)(place)
        yield task, outcome


@dataclass(frozen=True)
class Worker:
    """A process at work on a task, in one of the slots that share the machine."""

    task: Task
    slot: int
    process: SpawnProcess
    connection: Connection


class Pool:
    """Does tasks in processes of their own, one process a task: what goes wrong in one harms no other.

    Args:
        workers: tasks at a time; each slot has its device or its share of the cores.
        place: of logs and progress.
    """

    def __init__(self, workers: int, place: Path) -> None:
        self.workers, self.place = workers, place
        self.busy: list[Worker] = []
        self.ended: dict[str | None, Outcome] = {}

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Do the tasks; gives each with how it ended.

        Raises:
            Interrupted: by a signal; every process has saved what it had.
        """
        waiting = list(tasks)
        with Interruption() as interruption:
            try:
                while (waiting or self.busy) and interruption.signum is None:
                    self._begin(waiting)
                    yield from self._collect()
                for worker in self.busy:  # none, unless interrupted
                    worker.process.terminate()
                while self.busy:
                    yield from self._collect(told=True)
            finally:  # a second signal, say: nobody is left behind
                for worker in self.busy:
                    worker.process.kill()
        if interruption.signum is not None:
            raise Interrupted(interruption.signum)

    def _begin(self, waiting: list[Task]) -> None:
        """Start what can be started."""
        pending = {task.name for task in waiting} | {worker.task.name for worker in self.busy}
        for task in [task for task in waiting if task.after not in pending]:
            if len(self.busy) < self.workers:
                waiting.remove(task)
                self._start(behind(self.ended.get(task.after), task))

    def _start(self, task: Task) -> None:
        slot = min(set(range(self.workers)) - {worker.slot for worker in self.busy})
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(task, self.place, slot, self.workers, theirs))
        start(process)
        theirs.close()  # so that its death shows here
        self.busy.append(Worker(task, slot, process, ours))

    def _collect(self, told: bool = False) -> Iterator[tuple[Task, Outcome]]:
        """Wait a moment; gives what has ended meanwhile, but for those that were told to."""
        ready = wait([worker.connection for worker in self.busy], SECONDS_BETWEEN_LOOKS)
        for worker in [worker for worker in self.busy if worker.connection in ready]:
            try:
                outcome = worker.connection.recv()
            except EOFError:
                outcome = None
            worker.process.join()
            self.busy.remove(worker)
            if outcome is None and not told:
                reason = _last_words(worker.process.exitcode)
                outcome = Outcome(dict.fromkeys(worker.task.labels, reason))
            if outcome is not None:
                self.ended[worker.task.name] = outcome
                yield worker.task, outcome


def _last_words(status: int | None) -> str:
    how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
    return f"its process ended {how}; the same command continues"


def _work(task: Task, place: Path, slot: int, slots: int, connection: Connection) -> None:
    """What a worker does."""
    with (place / f"{task.name}{LOG}").open("a") as log:  # and what libraries print
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    settle(slot, slots, task.run.train.device == "cuda")
    try:
        connection.send(task(place))
    except Interrupted as error:
        sys.exit(128 + error.signum)
