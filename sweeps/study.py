"""A plan's study in its storage, with the sampler and the pruner that the plan asks for."""

from __future__ import annotations

import json
import math

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from benchmarks.errors import UserError
from benchmarks.streams import derive
from sweeps import seals
from sweeps.config import Pruner, Sampler
from sweeps.ledger import Ledger
from sweeps.plan import Plan, disagreements
from sweeps.seals import SETTINGS
from sweeps.storage import read_whole

REDUCTION = 3  # Hyperband: one trial in so many goes on
LARGEST_RATIO = 9  # of the budget to Hyperband's first rung: at most three brackets; two of a budget of 3
# TPE sees only the trials of its bracket, so that the usual 10 would leave most of a study to chance.
STARTUP_TRIALS = 5


def open_study(plan: Plan, storage: BaseStorage, name: str | None = None) -> optuna.Study:
    """The study, created where there is none.

    Args:
        plan: of the study.
        storage: the plan's, open.
        name: of another study in it; default: the plan's.

    Raises:
        UserError: it was begun under other settings, or the storage is damaged.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=name or plan.name,
        direction="maximize",
        load_if_exists=True,
        pruner=make_pruner(plan),
    )
    ours = json.loads(json.dumps(plan.settings()))
    with read_whole(plan.search.storage):
        seals.check(study)
    begun = study.user_attrs.get(SETTINGS)
    if begun is None:
        seals.seal_settings(study, ours)
    elif others := disagreements(begun, ours):
        raise UserError(f"study={plan.name} was begun with {', '.join(others)}; another study=… keeps both")
    return study


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the highest score, of equals the earlier; None while there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(complete, key=lambda trial: (score_of(trial), -trial.number), default=None)


def score_of(trial: FrozenTrial) -> float:
    """What a complete trial reached, in percent."""
    assert trial.value is not None
    return trial.value


def search_ledger(plan: Plan, study: optuna.Study) -> Ledger:
    """The ledger of a study's trials, its first points in the queue."""
    ledger = Ledger(study, plan.search.trials, plan.search.heartbeat, plan.space.grid)
    ledger.enqueue(plan.points)
    return ledger


def make_sampler(plan: Plan, place: int) -> BaseSampler:
    """The sampler of a trial, seeded by its place in the study: workers differ, and a continued study of one worker
    that trains one trial at a time without pruning is the unbroken one.

    Constant liar takes trials that are still running for bad ones, so that those asked together keep apart.
    """
    seed = derive(plan.search.seed, "sampler", place) % 2**32
    if plan.search.sampler == Sampler.random:
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, constant_liar=True, n_startup_trials=STARTUP_TRIALS)


def make_pruner(plan: Plan) -> BasePruner:
    """The pruner."""
    if plan.pruner == Pruner.wilcoxon:
        return WilcoxonPruner()
    if plan.pruner == Pruner.none:
        return NopPruner()
    budget = plan.run.train.epochs
    first = math.ceil(budget / LARGEST_RATIO)
    return HyperbandPruner(min_resource=first, max_resource=budget, reduction_factor=REDUCTION)
