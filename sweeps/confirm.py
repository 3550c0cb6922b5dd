"""The best trial and the defaults, trained again on seeds that no trial has seen.

The best of many trials owes its score to luck too; what it gains over the defaults is measured anew, paired by
seed. The measurement is a study of its own, with a trial for each seed, so that it is shared, stopped and continued
as any study is. It is scored on the validation part, too: the test set is left for what is reported in the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console

from benchmarks.errors import RunFailed
from benchmarks.metrics import DIGITS, MIN_SEEDS
from benchmarks.words import signed
from benchmarks.workbench import Workbench
from sweeps.draft import of_point
from sweeps.ledger import origin
from sweeps.objective import named, score, train
from sweeps.plan import Plan
from sweeps.progress import say_lost
from sweeps.seals import tell

CONFIRMATION = ".confirm-"  # between a study's name and the trial that is confirmed
TUNED, DEFAULT = "tuned", "default"  # attributes of a trial: top-1 of both


def confirmation_name(study: str, best: int) -> str:
    """The study that confirms trial `best` of a study."""
    return f"{study}{CONFIRMATION}{best}"


class Confirmation:
    """Trains the best trial's variant and the defaults on a fresh seed, as one cohort.

    Args:
        plan: of the study whose best is confirmed.
        study: of the confirmation.
        best: that trial.
        bench: where to train.
        console: where to say what was found.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, best: FrozenTrial, bench: Workbench, console: Console
    ) -> None:
        self.plan, self.study, self.bench, self.console = plan, study, bench, console
        tuned, default = plan.draft(of_point(best.params)).variant, plan.base.variant
        self.variants = [named(default, DEFAULT)]
        if plan.base.resolve(tuned) != plan.base.resolve(default):
            self.variants.append(named(tuned, f"trial-{origin(best)}"))

    def enter(self, trial: Trial) -> Trial:
        """Let a trial have its seed."""
        trial.suggest_int("seed", 0, 2**31 - 1)
        return trial

    def __call__(self, trials: Sequence[Trial]) -> None:
        """Train both for the seed of each trial."""
        for trial in trials:
            seed = trial.params["seed"]
            jobs = train(self.plan, seed, self.variants, self.bench)
            if failures := [f"{job.config.label}, seed {seed}: {job.failure}" for job in jobs if job.failure]:
                raise RunFailed("\n".join(failures))
            default, tuned = score(jobs[0]), score(jobs[-1])  # one and the same where the defaults are the best
            try:
                trial.set_user_attr(TUNED, tuned)
                trial.set_user_attr(DEFAULT, default)
                tell(self.study, trial, tuned - default, TrialState.COMPLETE)
            except (ValueError, UpdateFinishedTrialError):
                say_lost(self.console, trial.number)
                continue
            best = f"best trial {tuned:.2f} %, " if len(jobs) > 1 else ""
            self.console.print(f"fresh seed {seed}: {best}defaults {default:.2f} %")


@dataclass(frozen=True)
class Paired:
    """What two variants reached, paired by seed.

    Attributes:
        ours, theirs: top-1 of both, in percent, by seed; what a seed gave to one of them alone is left out.
    """

    ours: Mapping[int, float]
    theirs: Mapping[int, float]

    @property
    def seeds(self) -> list[int]:
        """Those that both have."""
        return sorted(self.ours.keys() & self.theirs.keys())

    @property
    def scores(self) -> tuple[list[float], list[float]]:
        """Ours and theirs, in the order of the seeds."""
        return [self.ours[seed] for seed in self.seeds], [self.theirs[seed] for seed in self.seeds]

    @property
    def differences(self) -> np.ndarray:
        """In points, in the order of the seeds."""
        return np.subtract(*self.scores)

    @property
    def mean(self) -> float:
        """Mean difference."""
        return float(self.differences.mean())

    @property
    def half_width(self) -> float:
        """Of the mean difference's 95 % interval, by Student's t; infinite where there is none.

        That is below `MIN_SEEDS`, and where all seeds differ by the same: few equal values are no certainty.
        """
        from scipy import stats  # takes a second, which a command's help should not

        if len(self.seeds) < MIN_SEEDS or not np.round(np.ptp(self.differences), DIGITS):
            return float("inf")
        return float(stats.ttest_1samp(self.differences, 0).confidence_interval(0.95).high - self.mean)

    @property
    def difference(self) -> str:
        """The mean difference, with its interval where there is one."""
        interval = f" ± {self.half_width:.2f} (95 %, n = {len(self.seeds)})"
        return signed(self.mean) + (interval if np.isfinite(self.half_width) else "")


class Gain(Paired):
    """What tuning gained: ours are the best trial's scores, theirs those of the defaults."""

    @classmethod
    def of(cls, study: optuna.Study) -> Gain:
        """What a confirmation found so far."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        tuned, default = ({t.params["seed"]: t.user_attrs[key] for t in trials} for key in (TUNED, DEFAULT))
        return cls(tuned, default)

    @property
    def better(self) -> bool:
        """Whether the interval lies above zero."""
        return self.mean - self.half_width > 0

    def __str__(self) -> str:
        verdict = "better than the defaults" if self.better else "not shown to be better than the defaults"
        if np.isinf(self.half_width):
            few = len(self.seeds) < MIN_SEEDS
            verdict = f"no test below {MIN_SEEDS} seeds" if few else "no test where all seeds differ by the same"
        tuned, default = map(spread, self.scores)
        return f"{tuned} against {default}: {self.difference} points, {verdict}"


def spread(values: Collection[float]) -> str:
    """Mean and standard deviation (n − 1) in percent."""
    values = list(values)
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation} %"
