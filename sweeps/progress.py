"""What a study says of itself while it runs."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from sweeps.draft import Point
from sweeps.ledger import FINISHED
from sweeps.plan import Plan


def say_finished(console: Console, study: optuna.Study, plan: Plan, number: int, why: str) -> None:
    """A line for a trial that is over."""
    trials = study.get_trials(deepcopy=False)
    trial, done = trials[number], sum(each.state in FINISHED for each in trials)
    reached = "–" if trial.value is None else f"{trial.value:.2f} %"
    state = " ".join([trial.state.name.lower(), why]).strip()
    console.print(
        f"trial {number:<3}  {reached:>8}  {state}  ({done} of {plan.search.trials}{_best(trials)})  "
        f"{shown(trial.params)}"
    )


def _best(trials: list[FrozenTrial]) -> str:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return ""
    best = max(complete, key=lambda trial: trial.value or 0.0)
    return f", best {best.value:.2f} % by trial {best.number}"


def shown(point: Point) -> str:
    """Parameters in the words of the command line, figures shortened."""
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in point.items()}
    return "  ".join(f"{name}={value}" for name, value in values.items())
