"""Several workers on one machine, each a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from rich.console import Console

from benchmarks.cli import status_of
from benchmarks.config import Device
from benchmarks.console import make_console
from benchmarks.errors import Interrupted
from benchmarks.processes import settle, start
from benchmarks.training.signals import Interruption
from sweeps.plan import Plan
from sweeps.storage import open_storage
from sweeps.worker import labour

SECONDS_BETWEEN_LOOKS = 0.5


def run(plan: Plan, bury: Callable[[int], None], console: Console) -> None:
    """Run the plan's workers to their end, which some may meet before the study is done.

    Args:
        plan: of the study.
        bury: is told the number of one that died.
        console: where to say so.

    Raises:
        Interrupted: by a signal, which they were told of; everything is saved.
    """
    context = multiprocessing.get_context("spawn")  # what runs on a GPU cannot fork
    workers: list[BaseProcess] = [
        context.Process(target=_begin, args=(plan, k), daemon=True) for k in range(plan.search.workers)
    ]
    with Interruption() as interruption:
        for worker in workers:
            start(worker)
        _watch(workers, bury, interruption, console)
    if interruption.signum is not None:
        raise Interrupted(interruption.signum)


def _watch(
    workers: list[BaseProcess], bury: Callable[[int], None], interruption: Interruption, console: Console
) -> None:
    """Wait for the workers; at a signal, tell them to stop, and queue the trials of those that die."""
    living, told = list(workers), False
    while living:
        wait([worker.sentinel for worker in living], timeout=SECONDS_BETWEEN_LOOKS)
        for worker in [each for each in living if each.exitcode is not None]:
            living.remove(worker)
            if worker.exitcode and interruption.signum is None:
                assert worker.pid is not None
                console.print(
                    f"worker {worker.pid} ended with status {worker.exitcode}: its trials are queued again"
                )
                bury(worker.pid)
        if interruption.signum is not None and not told:
            told = True
            for worker in living:
                worker.terminate()  # Ctrl-C's signal they ignore until they train


def _begin(plan: Plan, slot: int) -> None:
    """The main function of a worker."""
    settle(slot, plan.search.workers, plan.run.train.device == Device.cuda)

    def work() -> int:
        labour(plan, open_storage(plan.search.storage), make_console())
        return 0

    sys.exit(status_of(work))
