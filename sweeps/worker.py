"""One process's part in a study: draw trials, train them, tell what they reached, until there are enough."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial
from rich.console import Console

from benchmarks.console import logged
from benchmarks.errors import Interrupted
from benchmarks.training.signals import Interruption
from benchmarks.workbench import Workbench, open_workbench
from sweeps.confirm import Confirmation, confirmation_name
from sweeps.ledger import Ledger, Pulse
from sweeps.objective import Objective
from sweeps.plan import Plan
from sweeps.storage import in_use
from sweeps.study import best_trial, make_sampler, open_study, search_ledger

SECONDS_BETWEEN_LOOKS = 1.0  # at what other workers do


def open_confirmation(plan: Plan, storage: BaseStorage, best: FrozenTrial) -> Ledger:
    """The ledger of the confirmation of a study's best trial, its seeds in the queue."""
    study = open_study(plan, storage, confirmation_name(plan.name, best.number))
    ledger = Ledger(study, len(plan.fresh_seeds), plan.search.heartbeat, grid=True)
    ledger.enqueue([{"seed": seed} for seed in plan.fresh_seeds])
    return ledger


def queue_confirmation(plan: Plan, storage: BaseStorage, study: optuna.Study) -> Ledger | None:
    """Begin the confirmation of a study's best trial, its seeds in the queue, or go on with it.

    Returns:
        its ledger; None where nothing is left to be confirmed.
    """
    best = best_trial(study)
    if best is None or not plan.fresh_seeds:
        return None
    ledger = open_confirmation(plan, storage, best)
    return ledger if ledger.finished() < ledger.target else None


def labour(plan: Plan, storage: BaseStorage, console: Console) -> None:
    """What each process does for a study; what each epoch says is too much for the terminal, and goes to a file."""
    path = plan.folder / "logs" / f"{socket.gethostname()}-{os.getpid()}.log"
    with logged(path) as log, in_use(plan.search.storage):
        Worker(plan, storage, open_workbench(plan.run, log), console).run()


class Worker:
    """A worker.

    Args:
        plan: of the study.
        storage: the plan's, open.
        bench: where to train; its console takes the details.
        console: where to say what became of trials.
    """

    def __init__(self, plan: Plan, storage: BaseStorage, bench: Workbench, console: Console) -> None:
        self.plan, self.storage, self.bench, self.console = plan, storage, bench, console

    def run(self) -> None:
        """Work until the study is done and its best is confirmed.

        Raises:
            Interrupted: by a signal; its trials are queued again and continue from their checkpoints.
        """
        with Interruption():
            study = open_study(self.plan, self.storage)
            objective = Objective(self.plan, study, self.bench, self.console)
            self._work(search_ledger(self.plan, study), self.plan.search.cohort, objective.enter, objective)
            self._confirm(study)

    def _confirm(self, study: optuna.Study) -> None:
        best = best_trial(study)
        if best is None or not self.plan.fresh_seeds:
            return
        ledger = open_confirmation(self.plan, self.storage, best)
        confirmation = Confirmation(self.plan, ledger.study, best, self.bench, self.console)
        self._work(ledger, 1, confirmation.enter, confirmation)

    def _work(
        self, ledger: Ledger, most: int, enter: Callable[[Trial], Any], train: Callable[[list[Any]], None]
    ) -> None:
        """Train until enough trials are finished, and wait for those of other workers, which may die."""
        while ledger.finished() < ledger.target:
            Interruption.heed()
            ledger.reclaim()
            if ledger.has_more():
                self._train(ledger, most, enter, train)
            elif ledger.running():
                time.sleep(SECONDS_BETWEEN_LOOKS)
            else:
                return  # what is left was given up

    def _train(
        self, ledger: Ledger, most: int, enter: Callable[[Trial], Any], train: Callable[[list[Any]], None]
    ) -> None:
        trials: list[Trial] = []
        entries = []
        try:
            with Pulse(ledger, trials):
                for trial in ledger.draw(most):
                    trials.append(trial)
                    ledger.study.sampler = make_sampler(self.plan, ledger.place(trial))
                    entries.append(enter(trial))
                train(entries)
        except BaseException as error:
            ledger.give_back(died=not isinstance(error, Interrupted | KeyboardInterrupt))
            raise
