"""Who trains which trial of a study that many workers share, and how many are done.

Optuna's own heartbeats exist for databases alone, and within `optimize`, which holds one trial at a time. A cohort
holds several, so workers here sign the trials that they draw and renew the signature while they live, on any
storage. A trial whose signature nobody renews is failed and queued again under its parameters, by the callback that
Optuna's heartbeats use; only one worker can fail a trial, so it is queued once. Clocks of machines differ, so each
worker measures by its own for how long a signature has been the same; it does not read the time in it. Which
workers of its own machine are dead it sees at once: after a kill the same command first trains what was lost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

# Attributes of a trial
POINT, ORIGIN, WORKER, BEAT, DEATHS = "point", "origin", "worker", "beat", "deaths"
WHOLE, SUPERFLUOUS = "whole", "superfluous"  # it has all of its parameters; it was drawn, but not needed

BEATS_MISSED = 4  # until a worker counts as dead
MOST_DEATHS = 3  # of its workers, until a trial is given up
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
HELD = (TrialState.RUNNING, *FINISHED)


def origin(trial: FrozenTrial | Trial) -> int:
    """The number that a trial first had; one that was queued again has a new number of its own."""
    return trial.user_attrs.get(ORIGIN, trial.number)


class Ledger:
    """One worker's view of the trials of a study.

    Args:
        study: shared by all workers.
        target: finished trials that end the study.
        heartbeat: seconds between two signs of life.
        grid: whether there are no trials but those that were queued.
    """

    def __init__(self, study: optuna.Study, target: int, heartbeat: float, grid: bool) -> None:
        self.study, self.target, self.heartbeat, self.grid = study, target, heartbeat, grid
        self.worker = worker_name(os.getpid())
        self._signatures: dict[int, tuple[float | None, float]] = {}  # of each trial the last, and since when

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Queue the points that the study lacks, whoever queued the others."""
        known = {trial.user_attrs.get(POINT) for trial in self._trials()}
        for k, point in enumerate(points):
            if k not in known:
                self.study.enqueue_trial(dict(point), user_attrs={POINT: k})

    def draw(self, most: int) -> Iterator[Trial]:
        """Trials for this worker to train, while the study has need of more.

        Each is to be given its parameters before the next is drawn, so that the sampler knows of it.
        """
        drawn = 0
        while drawn < most and self.has_more():
            trial = self.study.ask()
            self.sign(trial)
            if self._superfluous(trial):
                trial.set_user_attr(SUPERFLUOUS, True)
                self.study.tell(trial, state=TrialState.FAIL)
                continue
            drawn += 1
            yield trial
            trial.set_user_attr(WHOLE, True)

    def has_more(self) -> bool:
        """Whether the study has need of a trial that nobody trains."""
        held = self._trials(HELD)
        return len(held) < self.target and (not self.grid or bool(self._trials((TrialState.WAITING,))))

    def sign(self, trial: Trial) -> None:
        """A sign of life of the worker that trains a trial."""
        trial.set_user_attr(WORKER, self.worker)
        trial.set_user_attr(BEAT, time.time())

    def _superfluous(self, trial: Trial) -> bool:
        """Whether other workers have drawn the last places, or the same point, at the same moment."""
        point = trial.user_attrs.get(POINT)
        if self.grid and point is None:
            return True
        others = [other for other in self._trials(HELD) if other.number < trial.number]
        doubled = any(
            origin(other) == origin(trial) or (point is not None and other.user_attrs.get(POINT) == point)
            for other in others
        )
        return doubled or len(others) >= self.target

    def place(self, trial: Trial) -> int:
        """Which of the study's trials it is, from 0, one that was queued again being the same."""
        return len({origin(other) for other in self._trials() if origin(other) < origin(trial)})

    def finished(self) -> int:
        """Trials that are complete or pruned."""
        return len(self._trials(FINISHED))

    def running(self) -> int:
        """Trials that are trained now, by any worker."""
        return len(self._trials((TrialState.RUNNING,)))

    def is_over(self) -> bool:
        """Whether enough trials are finished, or what is left was given up."""
        return self.finished() >= self.target or not (self.has_more() or self.running())

    def reclaim(self) -> None:
        """Queue the trials of dead workers again, and those that a worker failed for that and died over it."""
        latest = time.monotonic() - BEATS_MISSED * self.heartbeat  # from before the look, which may take long
        self._requeue(lambda trial: _is_dead(trial) or self._signed_since(trial) < latest, death=True)
        failed = self._trials((TrialState.FAIL,))
        queued = {k for trial in self._trials() for k in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
        for trial in failed:
            if trial.number not in queued and SUPERFLUOUS not in trial.user_attrs:
                self._queue_again(trial, death=True)

    def _signed_since(self, trial: FrozenTrial) -> float:
        """When this worker first saw a trial's signature as it is; one that died before it signed has none."""
        beat = trial.user_attrs.get(BEAT)
        last = self._signatures.get(trial.number)
        if last is None or last[0] != beat:
            last = self._signatures[trial.number] = beat, time.monotonic()
        return last[1]

    def bury(self, pid: int) -> None:
        """Queue the trials of a process of this machine again, which is known to be dead."""
        self._requeue(lambda trial: trial.user_attrs.get(WORKER) == worker_name(pid), death=True)

    def give_back(self, died: bool) -> None:
        """Queue this worker's trials again: it was asked to stop, or cannot go on."""
        self._requeue(lambda trial: trial.user_attrs.get(WORKER) == self.worker, death=died)

    def _requeue(self, chosen: Callable[[FrozenTrial], bool], death: bool) -> None:
        for trial in self._trials((TrialState.RUNNING,)):
            if chosen(trial) and self._fail(trial):
                self._queue_again(trial, death)

    def _queue_again(self, trial: FrozenTrial, death: bool) -> None:
        """Queue a failed trial again, unless it has cost too many workers' lives."""
        deaths = trial.user_attrs.get(DEATHS, 0) + death
        if deaths > MOST_DEATHS:
            return
        again = deepcopy(trial)
        again.user_attrs = trial.user_attrs | {ORIGIN: origin(trial), DEATHS: deaths}
        for of_the_worker in (WORKER, BEAT, SUPERFLUOUS):
            again.user_attrs.pop(of_the_worker, None)
        if WHOLE not in trial.user_attrs:  # those it has would shift the sampler's random numbers for the others
            again.params, again.distributions = {}, {}
        RetryHeartbeatStaleTrialCallback()(self.study, again)

    def _fail(self, trial: FrozenTrial) -> bool:
        """Fail a running trial; False where another worker was quicker."""
        try:
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True

    def _trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


def worker_name(pid: int) -> str:
    """The signature of a process of this machine."""
    return f"{_here()}:{pid}"


@cache
def _here() -> str:
    """Where a process's number is its own: on this machine since it was started, in this container."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):  # no Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    return name


def _is_dead(trial: FrozenTrial) -> bool:
    """Whether it was signed by a process of this machine, as far as machines can be told apart, that is no more."""
    where, _, pid = trial.user_attrs.get(WORKER, "").rpartition(":")
    if where != _here() or "/" not in where:
        return False
    try:
        os.kill(int(pid), 0)  # which does nothing but look
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


class Pulse:
    """A context in which trials are signed again at every heartbeat, by a thread.

    Args:
        ledger: of their study.
        trials: may grow meanwhile.
    """

    def __init__(self, ledger: Ledger, trials: list[Trial]) -> None:
        self.ledger, self.trials = ledger, trials
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self.ledger.heartbeat):
            for trial in list(self.trials):
                with contextlib.suppress(Exception):  # it is finished, or its storage away: the next beat will do
                    self.ledger.sign(trial)
