"""Trains a grid's tasks on Ray: it places them, shares out GPUs and starts again what a lost worker had begun.

A task that is started again continues from its last checkpoint, so the folder of the runs must be one that all
machines see. A teacher's task is an argument of the tasks that wait for it: the order is Ray's to keep.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.config import RunConfig
from benchmarks.errors import Interrupted, UserError, first_line
from benchmarks.suite.config import SuiteConfig
from benchmarks.suite.tasks import Outcome, Task, behind
from benchmarks.training.signals import Interruption

SECONDS_BETWEEN_LOOKS = 0.5  # at signals
SECONDS_TO_SAVE = 60.0  # that interrupted tasks are given
SECONDS_TO_ANSWER = 10.0
OBJECT_STORE = 80 * 2**20  # bytes, about Ray's least: tasks exchange a few words


class Cluster:
    """Ray on this machine, or an existing cluster. A context.

    Args:
        config: of the suite.
        run: one of its runs: on what it trains.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, config: SuiteConfig, run: RunConfig) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("launcher=ray: Ray is not installed; pip install 'kd-benchmarks[cluster]'") from None
        self.ray: Any = ray
        self.gpus = config.gpus if config.gpus is not None else float(run.train.device == "cuda")
        self.retries, self.address = config.retries, config.address
        self.num_cpus = config.workers * run.train.threads

    def __enter__(self) -> Cluster:
        _check_address(self.address)
        local: dict[str, Any] = {"num_cpus": self.num_cpus, "object_store_memory": OBJECT_STORE}
        try:
            self.ray.init(
                self.address or "local",
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level="error",
                **(local if self.address is None else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"address={self.address}: {first_line(error)}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def run(self, tasks: Sequence[Task], place: Path) -> Iterator[tuple[Task, Outcome]]:
        """Do the tasks; gives each with how it ended.

        Raises:
            Interrupted: by a signal; every task has saved what it had.
        """
        pending = self._submit(tasks, place)
        with Interruption() as interruption:
            while pending and interruption.signum is None:
                ready, _ = self.ray.wait(list(pending), timeout=SECONDS_BETWEEN_LOOKS)
                for reference in ready:
                    task = pending.pop(reference)
                    yield task, self._outcome(task, reference)
            if interruption.signum is not None:
                self._stop(list(pending))
                raise Interrupted(interruption.signum)

    def _submit(self, tasks: Sequence[Task], place: Path) -> dict[Any, Task]:
        remote = self.ray.remote(_work)
        references: dict[str | None, Any] = {}
        for task in tasks:
            options = {"num_cpus": task.run.train.threads, "num_gpus": self.gpus, "max_retries": self.retries}
            started = remote.options(name=task.name, **options).remote(task, place, references.get(task.after))
            references[task.name] = started
        return {references[task.name]: task for task in tasks}

    def _outcome(self, task: Task, reference: Any) -> Outcome:
        try:
            outcome = self.ray.get(reference)
            assert isinstance(outcome, Outcome)
            return outcome
        except self.ray.exceptions.RayError as error:  # its worker was lost once too often, say
            return Outcome(dict.fromkeys(task.labels, f"{first_line(error)}; the same command continues"))

    def _stop(self, references: list[Any]) -> None:
        """Ray tells a cancelled task as Ctrl-C would, so that it saves what it has."""
        for reference in references:
            self.ray.cancel(reference)
        if references:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_SAVE)


def _check_address(address: str | None) -> None:
    """Refuse an address where nobody answers: Ray itself would try for a quarter of an hour."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # auto, say
        return
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"address={address}: {first_line(error)}") from None


def _work(task: Task, place: Path, before: Outcome | None) -> Outcome:
    """What a worker does."""
    # By SIGINT Ray cancels tasks; what a script starts in the background, and all below it, ignores that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return behind(before, task)(place)
