"""Studies of seconds: plans, storages, and training replaced by a formula."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from optuna.trial import FrozenTrial

from benchmarks.cli import compose_config, main
from sweeps import conduct, confirm, findings, objective, run, show, spaces
from sweeps.ledger import FINISHED
from sweeps.plan import Plan, prepare

SMALL = (
    "data=digits",
    "pair=custom",
    "pair.teacher=resnet8",
    "pair.student=resnet8",
    "train.threads=1",
    "train.precision=fp32",
    "tracking.mode=disabled",
)
# Trials of a second
QUICK = (*SMALL, "train.batch_size=8", "train.max_steps=3", "teacher.epochs=1", "confirm=1")


def plan_of(*words: str) -> Plan:
    """The plan of a command line."""
    config, given = compose_config(run.COMMAND, words)
    return prepare(config, given, spaces.find(config.space), config.study)


def study(*words: str) -> int:
    """`sweeps.run` in this process."""
    return main(run.COMMAND, list(words))


def shown(*words: str) -> int:
    """`sweeps.show` in this process."""
    return main(show.COMMAND, list(words))


def trials_of(storage: str) -> list[FrozenTrial]:
    """The trials of a storage's one study, beside its confirmation."""
    (name,) = findings.names(storage)
    return findings.find(storage, name).trials


def finished(storage: str) -> list[FrozenTrial]:
    """Those that count."""
    return [trial for trial in trials_of(storage) if trial.state in FINISHED]


@contextlib.contextmanager
def formula(score: Callable[..., float | None]) -> Iterator[list[tuple[int, list[str]]]]:
    """Within it nothing is trained: a variant's top-1 is `score(variant, seed)`, None where it diverges.

    Yields:
        the trainings, as seed and labels of the cohort.
    """
    trained = []

    def train(plan, seed, variants, bench, observers=()):
        trained.append((seed, [variant.label for variant in variants]))
        jobs = []
        for variant in variants:
            top1 = score(variant, seed)
            result = None if top1 is None else {"summary": {"val/top1_last": top1}, "history": []}
            failure = "the loss term afb is not finite at step 3" if top1 is None else None
            jobs.append(
                SimpleNamespace(result=result, failure=failure, config=SimpleNamespace(label=variant.label))
            )
        return jobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "train", train)
        patch.setattr(confirm, "train", train)
        patch.setattr(conduct, "_prepare_teacher", lambda plan, study, bench: None)
        yield trained
