"""What a study says of itself while it runs."""

from __future__ import annotations

import optuna
from rich.console import Console

from sweeps.draft import Point
from sweeps.ledger import FINISHED
from sweeps.plan import Plan
from sweeps.study import best_trial, score_of


def say_lost(console: Console, number: int) -> None:
    """A trial was taken over by another worker."""
    console.print(f"trial {number} went to another worker, since this one gave no sign of life for too long")


def say_finished(console: Console, study: optuna.Study, plan: Plan, number: int, why: str) -> None:
    """A line for a trial that is over."""
    trials, best = study.get_trials(deepcopy=False), best_trial(study)
    trial, done = trials[number], sum(each.state in FINISHED for each in trials)
    reached = "–" if trial.value is None else f"{trial.value:.2f} %"
    state = " ".join([trial.state.name.lower(), why]).strip()
    so_far = f"{done} of {plan.search.trials}"
    if best is not None:
        so_far += f", best {score_of(best):.2f} % by trial {best.number}"
    console.print(f"trial {number:<3}  {reached:>8}  {state}  ({so_far})  {shown(trial.params)}")


def shown(point: Point) -> str:
    """Parameters in the words of the command line, figures shortened."""
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in point.items()}
    return "  ".join(f"{name}={value}" for name, value in values.items())
