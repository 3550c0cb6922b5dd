"""A study from beginning to end on this machine: the teacher, then workers until all is found."""

from __future__ import annotations

from functools import partial

import optuna
from optuna.storages import BaseStorage
from rich.console import Console

from benchmarks.distillation import Distillation
from benchmarks.errors import RunFailed, UserError
from benchmarks.files import check_writable
from benchmarks.tracking import check_tracking
from benchmarks.words import counted
from benchmarks.workbench import Workbench, open_workbench
from sweeps import processes
from sweeps.ledger import FINISHED, MOST_DEATHS, Ledger
from sweeps.plan import Plan
from sweeps.storage import hidden, in_use, open_storage
from sweeps.study import open_study, search_ledger
from sweeps.worker import labour, queue_confirmation

TEACHER = "teacher"  # attribute of a study: SHA-256 of the weights that its trials learn from


def conduct(plan: Plan, console: Console) -> None:
    """Work on a study until it is done, with as many processes as the plan asks for.

    Raises:
        UserError: settings, data, a teacher or a storage that cannot work.
        RunFailed: a worker or the storage failed, or what was asked for is not done.
        Interrupted: by a signal; everything is saved.
    """
    with in_use(plan.search.storage):
        _conduct(plan, console)


def _conduct(plan: Plan, console: Console) -> None:
    storage = open_storage(plan.search.storage)
    study = open_study(plan, storage)
    ledger = search_ledger(plan, study)
    console.print(f"study {plan.name} in {hidden(plan.search.storage)}", style="bold")
    begun_with = ledger.finished()
    if begun_with >= ledger.target and queue_confirmation(plan, storage, study) is None:
        console.print(f"complete already: {counted(begun_with, 'finished trial')} (for more: a larger trials=N)")
        return
    _announce(plan, begun_with, console)
    check_tracking(plan.run.tracking)
    check_writable("output", plan.folder)
    _prepare_teacher(plan, study, open_workbench(plan.run, console))
    if plan.search.workers > 1:
        processes.run(plan, partial(_bury, plan, storage, study, ledger), console)
    else:
        labour(plan, storage, console)
    if ledger.finished() <= max(begun_with, ledger.target):  # else others search on, and confirm what they find
        _check_done(plan, storage, study, ledger)


def _bury(plan: Plan, storage: BaseStorage, study: optuna.Study, ledger: Ledger, pid: int) -> None:
    """Queue the trials of a dead process of this machine again, of the search or of the confirmation."""
    ledger.bury(pid)
    if ledger.is_over() and (confirming := queue_confirmation(plan, storage, study)):
        confirming.bury(pid)


def _check_done(plan: Plan, storage: BaseStorage, study: optuna.Study, ledger: Ledger) -> None:
    """See that workers have left nothing behind.

    Raises:
        RunFailed: they have.
    """
    again = "; the same command continues the study"
    if not ledger.is_over():
        raise RunFailed(
            f"workers ended when {ledger.finished()} of {counted(ledger.target, 'trial')} were finished{again}"
        )
    confirming = queue_confirmation(plan, storage, study)
    if confirming is None:
        return
    done = {trial.params["seed"] for trial in confirming.study.get_trials(deepcopy=False, states=FINISHED)}
    missing = ", ".join(str(seed) for seed in plan.fresh_seeds if seed not in done)
    if confirming.is_over():
        again = f" and was given up after {MOST_DEATHS + 1} failures; confirm=0 leaves it out"
    raise RunFailed(f"the best trial's confirmation on fresh seeds lacks seed {missing}{again}")


def _announce(plan: Plan, finished: int, console: Console) -> None:
    search, run = plan.search, plan.run
    console.print(
        f"{plan.space.name} of {run.pair.teacher} teaching {run.pair.student} on {run.data.name}: {finished} of "
        f"{counted(search.trials, 'trial')} finished, {counted(run.train.epochs, 'epoch')} each, "
        f"seeds {search.seeds}"
    )
    console.print(
        f"{search.sampler} sampler, pruner: {plan.pruner}; workers: {search.workers}, up to {search.cohort} trials "
        f"under one teacher; details in {plan.folder / 'logs'}"
    )


def _prepare_teacher(plan: Plan, study: optuna.Study, bench: Workbench) -> None:
    """See that all who join the study learn from one teacher.

    Raises:
        UserError: the study has another one.
    """
    distillation = Distillation(plan.run, [plan.base.variant], bench.console)
    distillation.rehearse(bench)
    if not distillation.needs_teacher:
        return
    distillation.prepare_teacher(bench)
    assert distillation.teacher is not None
    ours = distillation.teacher.sha256
    theirs = study.user_attrs.get(TEACHER)
    if theirs is None:
        study.set_user_attr(TEACHER, ours)
    elif theirs != ours:
        raise UserError(
            f"the trials of study={plan.name} learn from another teacher than {distillation.teacher.source}; "
            "all who join must name the same teacher.root=…"
        )
