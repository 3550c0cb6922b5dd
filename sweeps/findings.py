"""What a study has found so far, read from its storage alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from benchmarks.errors import UserError, require
from methods import unknown
from sweeps.confirm import CONFIRMATION, Gain, confirmation_name
from sweeps.ledger import FINISHED, POINT
from sweeps.seals import SETTINGS, check
from sweeps.storage import hidden, open_storage, read_whole
from sweeps.study import best_trial, score_of

# Complete trials for importances. Of five parameters, in simulations, one that explains half of the variance comes
# first in 8 % of studies of 4 trials, in 65 % of 8, in 75 % of 12 and in 90 % of 16.
LEAST_TRIALS = 16
NUM_FORESTS = 10  # seeds of the random forest that importances are read off


@dataclass(frozen=True)
class Findings:
    """A study's trials, and what became of its best one on fresh seeds."""

    study: optuna.Study
    gain: Gain | None

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def of(self, state: TrialState) -> list[FrozenTrial]:
        """The trials in a state."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def finished(self) -> list[FrozenTrial]:
        """The trials that count: complete or pruned."""
        return [trial for trial in self.trials if trial.state in FINISHED]

    @property
    def settings(self) -> dict[str, Any]:
        """What all trials share."""
        return self.study.user_attrs[SETTINGS]

    @property
    def best(self) -> FrozenTrial | None:
        return best_trial(self.study)

    @property
    def default(self) -> FrozenTrial | None:
        """The trial of the method's defaults, if it is complete; a grid has none."""
        if self.settings["grid"]:
            return None
        return next((trial for trial in self.of(TrialState.COMPLETE) if trial.user_attrs.get(POINT) == 0), None)

    @property
    def ranges(self) -> dict[str, BaseDistribution]:
        """The range of every parameter that any trial has, by name."""
        ranges: dict[str, BaseDistribution] = {}
        for trial in self.trials:
            ranges = trial.distributions | ranges
        return dict(sorted(ranges.items()))

    def ranked(self) -> list[FrozenTrial]:
        """Complete trials, the best first; of equals the earlier."""
        return sorted(self.of(TrialState.COMPLETE), key=lambda trial: (-score_of(trial), trial.number))

    def importances(self) -> dict[str, tuple[float, float]]:
        """Part of the scores' variance that each parameter explains, as mean and deviation over forests' seeds.

        By functional ANOVA (Hutter, Hoos & Leyton-Brown, ICML 2014) of the complete trials; parameters that only
        some trials have are left out. The deviation is the forests' own: it does not tell how much is chance in the
        trials. Empty where trials are too few, or all alike.
        """
        # Takes the time that scikit-learn takes, which a command's help should not.
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        complete = self.of(TrialState.COMPLETE)
        if len(complete) < LEAST_TRIALS or np.ptp([score_of(trial) for trial in complete]) == 0:
            return {}
        found = [
            get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=seed))
            for seed in range(NUM_FORESTS)
        ]
        values = {name: [each[name] for each in found] for name in found[0]}
        return {name: (float(np.mean(v)), float(np.std(v, ddof=1))) for name, v in values.items()}


def names(storage: str) -> list[str]:
    """Names of a storage's studies, without those that confirm another's best trial."""
    return _names(open_storage(storage, create=False))


def _names(storage: BaseStorage) -> list[str]:
    return [name for name in optuna.get_all_study_names(storage) if CONFIRMATION not in name]


def find(storage: str, name: str) -> Findings:
    """The findings of a study.

    Raises:
        UserError: the storage cannot be opened, is damaged, or has no such study; the message lists those it has.
    """
    opened = open_storage(storage, create=False)
    there = _names(opened)
    require(bool(there), f"{hidden(storage)}: there is no study yet")
    if name not in there:
        raise UserError(f"{hidden(storage)}: {unknown('study', name, there)}")
    with read_whole(storage):
        study = optuna.load_study(study_name=name, storage=opened)
        check(study)
        require(SETTINGS in study.user_attrs, f"study={name} was just begun: there is nothing to show yet")
        return Findings(study, _gain(study, opened))


def _gain(study: optuna.Study, storage: BaseStorage) -> Gain | None:
    best = best_trial(study)
    if best is None:
        return None
    try:
        confirming = optuna.load_study(study_name=confirmation_name(study.study_name, best.number), storage=storage)
    except KeyError:
        return None
    check(confirming)
    gain = Gain.of(confirming)
    return gain if gain.seeds else None
