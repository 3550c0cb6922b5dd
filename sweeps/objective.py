"""What a trial's parameters are worth: top-1 on the validation part after the last epoch, averaged over seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState
from rich.console import Console

from benchmarks import metrics
from benchmarks.distillation import Distillation
from benchmarks.repeat import beyond_usual, repeat
from benchmarks.results import Job
from benchmarks.training.cohort import Observer
from benchmarks.training.member import Member
from benchmarks.training.signals import Interruption
from benchmarks.training.stage import Row
from benchmarks.variants import Variant
from benchmarks.words import command_line, counted
from benchmarks.workbench import Workbench
from sweeps import seals
from sweeps.config import Pruner
from sweeps.draft import from_trial
from sweeps.ledger import origin
from sweeps.plan import Plan
from sweeps.progress import say_finished, say_lost

SPLIT = "val"
TOP1, TOP1_LAST = metrics.evaluation(SPLIT, "top1"), metrics.evaluation(SPLIT, metrics.TOP1_LAST)

SECONDS_BETWEEN_LOOKS = 2  # at a run that another process is training

# Attributes of a trial, beside those of its worker
SCORES, FAILURE, PRESET, COMMAND = "scores", "failure", "settings", "command"


def train(
    plan: Plan, seed: int, variants: Sequence[Variant], bench: Workbench, observers: Sequence[Observer] = ()
) -> list[Job]:
    """Train variants under a seed as one cohort, as `benchmarks.run` would.

    A run that another process is training, which was taken for dead and is not, is waited for.

    Raises:
        Interrupted: by a signal; everything is saved.
    """
    run, jobs = dataclasses.replace(plan.run, seed=seed), dict[str, Job]()
    while left := [variant for variant in variants if variant.label not in jobs]:
        Interruption.heed()
        distillation = Distillation(run, left, bench.console, leave_taken=True)
        jobs |= {job.config.label: job for job in distillation.train(bench, observers) if not job.taken}
        if len(jobs) < len(variants):
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return [jobs[variant.label] for variant in variants]


def named(variant: Variant, label: str) -> Variant:
    """A variant under a label."""
    return dataclasses.replace(variant, method=dataclasses.replace(variant.method, label=label))


def score(job: Job) -> float:
    """What a complete job reached, in percent."""
    assert job.result is not None
    return float(job.result["summary"][TOP1_LAST])


def record(plan: Plan, variant: Variant) -> dict[str, Any]:
    """What a variant changes of its method's defaults, as a preset, and the command that repeats its training."""
    student = plan.base.resolve(variant)
    told = beyond_usual(student, plan.base.specs)
    words = command_line([f"teacher.root={plan.run.teacher.root}"])
    return {
        PRESET: told | {"method": {"name": student.method.name} | told.get("method", {})},
        COMMAND: f"{repeat(student, plan.run.teacher)} {words}",
    }


@dataclass
class Entry:
    """A trial in training."""

    trial: Trial
    variant: Variant
    scores: list[float] = field(default_factory=list)
    over: bool = False


class Objective:
    """Trains the trials of a cohort and tells the study what they reached.

    Args:
        plan: of the study.
        study: the study.
        bench: where to train; its console takes the details.
        console: where to say what became of a trial.
    """

    def __init__(self, plan: Plan, study: optuna.Study, bench: Workbench, console: Console) -> None:
        self.plan, self.study, self.bench, self.console = plan, study, bench, console

    def enter(self, trial: Trial) -> Entry:
        """Give a trial its parameters. One that was queued again keeps its label, and so continues its own run."""
        variant = self.plan.draft(from_trial(trial)).variant
        for key, value in record(self.plan, variant).items():
            trial.set_user_attr(key, value)
        return Entry(trial, named(variant, f"trial-{origin(trial)}"))

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Train the trials, seed after seed; each is told as soon as it is over."""
        for k, seed in enumerate(self.plan.search.seeds):
            training = [entry for entry in entries if not entry.over]
            if not training:
                return
            by_epoch = k == 0 and self.plan.pruner != Pruner.wilcoxon
            observers = [Reports(self, training)] if by_epoch else []
            jobs = train(self.plan, seed, [entry.variant for entry in training], self.bench, observers)
            for observer in observers:
                observer.catch_up(jobs)
            for entry, job in zip(training, jobs, strict=True):
                if not entry.over:
                    self._take(entry, job)

    def _take(self, entry: Entry, job: Job) -> None:
        """Note a seed's result, or that there is none."""
        try:
            self._note(entry, job)
        except UpdateFinishedTrialError:
            self._lose(entry)

    def _note(self, entry: Entry, job: Job) -> None:
        if job.failure:
            # A divergence is a finding: the trial counts, as the worst.
            entry.trial.set_user_attr(FAILURE, job.failure)
            self.tell(entry, TrialState.PRUNED, job.failure)
            return
        entry.scores.append(score(job))
        entry.trial.set_user_attr(SCORES, entry.scores)
        if self.plan.pruner == Pruner.wilcoxon:
            entry.trial.report(entry.scores[-1], step=len(entry.scores))
        if len(entry.scores) == len(self.plan.search.seeds):
            self.tell(entry, TrialState.COMPLETE)
        elif self.plan.pruner == Pruner.wilcoxon and entry.trial.should_prune():
            self.tell(entry, TrialState.PRUNED, f"after {counted(len(entry.scores), 'seed')}")

    def tell(self, entry: Entry, state: TrialState, why: str = "") -> None:
        """A trial is over."""
        entry.over = True
        reached = fmean(entry.scores) if state == TrialState.COMPLETE else None
        try:
            seals.tell(self.study, entry.trial, reached, state)
        except (ValueError, UpdateFinishedTrialError):
            self._lose(entry)
            return
        say_finished(self.console, self.study, self.plan, entry.trial.number, why)

    def _lose(self, entry: Entry) -> None:
        """Leave a trial to the worker that took it over."""
        entry.over = True
        say_lost(self.console, entry.trial.number)


class Reports(Observer):
    """Reports every epoch to the study, which may prune.

    Args:
        objective: is told what was pruned.
        entries: the trials in training.
    """

    def __init__(self, objective: Objective, entries: Sequence[Entry]) -> None:
        self.objective = objective
        self.entries = {entry.variant.label: entry for entry in entries}
        self.seen: set[str] = set()

    def catch_up(self, jobs: Sequence[Job]) -> None:
        """Report the epochs of runs that an earlier process completed and died before it told the study."""
        for job in jobs:
            if job.result and job.config.label not in self.seen:
                for row in job.result["history"]:
                    self._report(self.entries[job.config.label], row)

    def on_start(self, members: Sequence[Member], step: int, num_steps: int) -> None:
        for member in members:
            self.seen.add(member.name)
            for row in member.history:  # of an earlier process, which died with its trial
                self._report(self.entries[member.name], row)

    def on_epoch(self, member: Member, row: Row) -> None:
        entry = self.entries[member.name]
        self._report(entry, row)
        epoch, epochs = int(row[metrics.EPOCH]), self.objective.plan.run.train.epochs
        if not entry.over and epoch < epochs and entry.trial.should_prune():
            self.objective.tell(entry, TrialState.PRUNED, f"after epoch {epoch} of {epochs}")
        member.stopped = entry.over

    def _report(self, entry: Entry, row: Row) -> None:
        try:
            entry.trial.report(row[TOP1], step=int(row[metrics.EPOCH]))
        except UpdateFinishedTrialError:  # another worker took it for dead
            entry.over = True
