"""`python -m sweeps.fair`: every method tuned on the same budget, then compared on the same fresh seeds."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState
from rich.console import Console

from benchmarks import groups
from benchmarks.cli import Command, main, thawed
from benchmarks.console import make_console, make_table
from benchmarks.errors import RunFailed, require
from benchmarks.files import write_json
from benchmarks.identity import file_name
from benchmarks.metrics import MIN_SEEDS
from benchmarks.words import counted
from methods import option
from sweeps import findings, spaces
from sweeps.conduct import conduct
from sweeps.config import SearchConfig, StudyConfig
from sweeps.confirm import Gain, Paired, spread
from sweeps.findings import Findings
from sweeps.ledger import FINISHED
from sweeps.objective import PRESET
from sweeps.plan import Plan, prepare
from sweeps.storage import in_use, open_storage
from sweeps.study import open_study

EXAMPLES = (
    "python -m sweeps.fair 'methods=[aftkd,kd,at]' pair=vgg13_vgg8 data=digits trials=10 workers=2",
    "python -m sweeps.fair 'methods=[aftkd,kd,crd]' pair=vgg13_vgg8 trials=50 storage=postgresql://kd@host/studies",
)


@dataclass(frozen=True)
class FairConfig(SearchConfig):
    """A comparison of tuned methods."""

    methods: list[str] = option([], "the methods; each is searched in its own settings, none in its loss schedule")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """Tune every method, then compare them."""
    methods = list(config.methods)
    require(1 < len(methods) == len(set(methods)), f"methods={methods} must name at least two methods, each once")
    require(config.confirm > 0, "confirm=0: without fresh seeds there is nothing to compare")
    plans = {method: _plan(config, given, method) for method in methods}
    with in_use(plans[methods[0]].search.storage):
        _compare(plans, make_console())
    return 0


def _compare(plans: Mapping[str, Plan], console: Console) -> None:
    _check_budgets(plans)
    for plan in plans.values():
        conduct(plan, console)
        console.print()
    _check_budgets(plans)  # others may have gone on with a study meanwhile
    found = {method: findings.find(plan.search.storage, plan.name) for method, plan in plans.items()}
    gains = {method: _gain(plan, found[method]) for method, plan in plans.items()}
    _print(console, found, gains)
    _write(console, plans, found, gains)


def _plan(config: DictConfig, given: frozenset[str], method: str) -> Plan:
    """The study of one method, all else being equal."""
    study = thawed(OmegaConf.structured(StudyConfig))
    for name in (field.name for field in dataclasses.fields(SearchConfig)):
        if not OmegaConf.is_missing(config, name):
            study[name] = config[name]
    space = spaces.own_of(method)
    study.space = space.name
    return prepare(study, given - {"methods"}, space, None)


def _check_budgets(plans: Mapping[str, Plan]) -> None:
    """Refuse studies that were given more trials than the others get.

    Raises:
        UserError: naming them.
    """
    search = next(iter(plans.values())).search
    storage, trials = open_storage(search.storage), search.trials
    done = {
        method: len(open_study(plan, storage).get_trials(deepcopy=False, states=FINISHED))
        for method, plan in plans.items()
    }
    more = ", ".join(f"{method} has {number}" for method, number in done.items() if number > trials)
    require(
        not more,
        f"trials={trials} is not an equal budget: {more} finished; trials={max(done.values())} gives all the same, "
        "and another output=… starts afresh",
    )


def _gain(plan: Plan, found: Findings) -> Gain:
    """Of a method's best trial, on the seeds that all are compared on.

    Raises:
        RunFailed: it lacks some.
    """
    if found.best is None:
        raise RunFailed(f"study {plan.name}: no trial is complete, all diverged or were pruned")
    gain = found.gain or Gain({}, {})
    if missing := ", ".join(str(seed) for seed in plan.fresh_seeds if seed not in gain.seeds):
        raise RunFailed(
            f"study {plan.name}: trial {found.best.number}, its best, is not trained on fresh seed {missing}; the "
            "same command does that"
        )
    tuned, default = ({seed: each[seed] for seed in plan.fresh_seeds} for each in (gain.ours, gain.theirs))
    return Gain(tuned, default)


def _print(console: Console, found: Mapping[str, Findings], gains: Mapping[str, Gain]) -> None:
    """The methods, the best first; all differences are paired by seed."""
    ranked = sorted(gains, key=lambda method: -sum(gains[method].ours.values()))
    first = gains[ranked[0]]
    table = make_table("method", "trials", "pruned", "defaults", "tuned", "gained by tuning", "behind the first")
    for method in ranked:
        gain = gains[method]
        finished, pruned = len(found[method].finished), len(found[method].of(TrialState.PRUNED))
        tuned = "the defaults are best" if found[method].best == found[method].default else gain.difference
        scores = (spread(gain.theirs.values()), spread(gain.ours.values()), tuned)
        behind = "" if gain is first else Paired(gain.ours, first.ours).difference
        table.add_row(method, str(finished), str(pruned), *scores, behind)
    console.print(
        f"top-1 on held-out images, mean ± standard deviation over {counted(len(first.seeds), 'fresh seed')}"
    )
    console.print(table)
    few = len(first.seeds) < MIN_SEEDS
    intervals = (
        f"without intervals below {MIN_SEEDS} seeds"
        if few
        else "with 95 % intervals by Student's t, each by itself"
    )
    console.print(f"differences are paired by seed, {intervals}; the test set was not read")
    for method in ranked:
        console.print(f"searched of {method}: {', '.join(found[method].ranges)}")


def _write(
    console: Console, plans: Mapping[str, Plan], found: Mapping[str, Findings], gains: Mapping[str, Gain]
) -> None:
    """What the table is made of."""
    content: dict[str, Any] = {}
    for method, plan in plans.items():
        gain, best = gains[method], found[method].best
        assert best is not None
        content[method] = {
            "study": plan.name,
            "searched": list(found[method].ranges),
            "trial": best.number,
            "settings": best.user_attrs[PRESET],
            "seeds": gain.seeds,
            "default": list(gain.theirs.values()),
            "tuned": list(gain.ours.values()),
        }
    path = _path(plans)
    write_json(path, content)
    console.print(f"wrote {path}")


def _path(plans: Mapping[str, Plan]) -> Path:
    """The file of a comparison: a budget's cannot be made again once its studies have been given more trials."""
    plan = next(iter(plans.values()))
    run, methods = plan.run, "+".join(sorted(plans))
    words = f"fair-{run.pair.name}-{run.data.name}-{run.train.epochs}ep-{plan.search.trials}trials-{methods}"
    return Path(run.output).parent / f"{file_name(words)}.json"


COMMAND = Command(
    name="sweeps.fair",
    summary="tune several methods with the same number of trials each, and compare them and what tuning gained",
    examples=EXAMPLES,
    config=FairConfig,
    groups=lambda: {"pair": groups.pairs(), "data": groups.data_sets()},
    defaults=groups.DEFAULTS,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
