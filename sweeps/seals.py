"""Checksums of what a study holds: no storage keeps any, and a flipped bit in a score would be another score."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.files import checksum
from sweeps.ledger import BEAT, FINISHED, WORKER

SETTINGS = "settings"  # attribute of a study: what all who join it must agree on
SEAL = "seal"  # attribute of a study and of a finished trial


def seal_settings(study: optuna.Study, settings: dict[str, Any]) -> None:
    """Write a new study's settings."""
    study.set_user_attr(SEAL, checksum({SETTINGS: settings}))
    study.set_user_attr(SETTINGS, settings)


def tell(study: optuna.Study, trial: Trial, value: float | None, state: TrialState) -> None:
    """Seal a trial, and tell the study what it reached.

    Raises:
        ValueError, UpdateFinishedTrialError: another worker was quicker.
    """
    frozen = study.get_trials(deepcopy=False)[trial.number]
    trial.set_user_attr(SEAL, _checksum(study, frozen, value, state))
    study.tell(trial, value, state)


def check(study: optuna.Study) -> None:
    """See that settings and finished trials are as they were written.

    Raises:
        ValueError: they are not.
    """
    attributes, trials = study.user_attrs, study.get_trials(deepcopy=False)
    settings = attributes.get(SETTINGS)
    if (settings is not None or trials) and attributes.get(SEAL) != checksum({SETTINGS: settings}):
        raise ValueError(f"the settings of study {study.study_name} do not match their checksum")
    for place, trial in enumerate(trials):
        if trial.number != place or (trial.state in FINISHED and not _is_sealed(study, trial)):
            raise ValueError(f"trial {place} of study {study.study_name} does not match its checksum")


def _is_sealed(study: optuna.Study, trial: FrozenTrial) -> bool:
    value = trial.value if trial.state == TrialState.COMPLETE else None  # of a pruned one Optuna makes one up
    return trial.user_attrs.get(SEAL) == _checksum(study, trial, value, trial.state)


def _checksum(study: optuna.Study, trial: FrozenTrial, value: float | None, state: TrialState) -> str:
    """Of all that a finished trial says but times and its worker, who may still sign it."""
    attributes = {key: each for key, each in trial.user_attrs.items() if key not in (SEAL, WORKER, BEAT)}
    reports = sorted(trial.intermediate_values.items())
    said = [study.study_name, trial.number, state.name, value, trial.params, reports, attributes]
    return checksum({"trial": said})
