"""`python -m sweeps.show`: what a study found, in words, figures and a preset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from benchmarks.cli import Command, Verb, main
from benchmarks.config import PairConfig
from benchmarks.console import make_console, make_table
from benchmarks.errors import UserError, require
from benchmarks.files import write_text
from benchmarks.identity import file_name
from benchmarks.overrides import as_overrides
from benchmarks.repeat import pair_settings
from benchmarks.words import command_line, counted
from methods import option
from sweeps import findings, objective
from sweeps.config import StorageConfig
from sweeps.findings import Findings
from sweeps.ledger import ORIGIN
from sweeps.plan import fill_storage
from sweeps.progress import shown
from sweeps.storage import hidden, in_use
from sweeps.study import score_of

EXAMPLES = (
    "python -m sweeps.show study=aftkd-vgg13_vgg8-digits-3ep",
    "python -m sweeps.show study=aftkd-vgg13_vgg8-digits-3ep export=tuned.yaml",
    "python -m sweeps.show list storage=postgresql://kd@host/studies",
)


@dataclass(frozen=True)
class ShowConfig(StorageConfig):
    """What is shown."""

    study: str = option(MISSING, "name of the study")
    top: int = option(5, "how many of the best trials to list")
    out: str = option(MISSING, "folder for the figures, as PNG and PDF; default: figures in the study's folder")
    export: str | None = option(None, "file for the best trial's settings: benchmarks.run preset=FILE takes them")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """Show a study."""
    fill_storage(config)
    require(not OmegaConf.is_missing(config, "study"), "study=… names what to show; `list` lists what there is")
    require(config.top >= 1, f"top={config.top} must be at least 1")
    with in_use(config.storage, remedy=""):
        _show(config, make_console())
    return 0


def _show(config: DictConfig, console: Console) -> None:
    from sweeps.plots import draw_all  # takes the time that matplotlib takes

    found = findings.find(config.storage, config.study)
    console.print(f"study {config.study} in {hidden(config.storage)}", style="bold")
    _print_settings(console, found)
    _print_trials(console, found, config.top)
    _print_importances(console, found)
    _print_best(console, found)
    if OmegaConf.is_missing(config, "out"):
        config.out = str(Path(config.output) / file_name(config.study) / "figures")
    for path in draw_all(found, Path(config.out)):
        console.print(f"wrote {path}")
    if config.export is not None:
        _export(console, found, Path(config.export))


def _print_settings(console: Console, found: Findings) -> None:
    settings = found.settings
    console.print(
        f"{settings['space']} of {settings['pair']['teacher']} teaching {settings['pair']['student']} on "
        f"{settings['data']['name']}: {counted(settings['train']['epochs'], 'epoch')}, seeds {settings['seeds']}, "
        f"scored on {settings['data']['validation']:.0%} of the training set, held out"
    )
    counts = {state: len(found.of(state)) for state in TrialState}
    console.print(
        f"{counted(len(found.finished), 'trial')} finished: {counts[TrialState.COMPLETE]} complete, "
        f"{counts[TrialState.PRUNED]} pruned; {counts[TrialState.RUNNING]} running, "
        f"{counts[TrialState.WAITING]} in the queue"
    )
    if again := sum(ORIGIN in trial.user_attrs for trial in found.finished):
        console.print(f"{again} of them have new numbers, since a worker stopped or died while training them")


def _print_trials(console: Console, found: Findings, top: int) -> None:
    table = make_table()
    for column in ("trial", "top-1, %", "settings"):
        table.add_column(column, overflow="fold")
    best = found.ranked()[:top]
    for trial in best if found.default is None or found.default in best else [*best, found.default]:
        name = f"{trial.number} (defaults)" if trial == found.default else str(trial.number)
        table.add_row(name, f"{score_of(trial):.2f}", shown(trial.params))
    if best:
        console.print(table)


def _print_importances(console: Console, found: Findings) -> None:
    importances = found.importances()
    num_complete = len(found.of(TrialState.COMPLETE))
    if not importances:
        least = counted(findings.LEAST_TRIALS, "complete trial")
        console.print(f"importances need {least} with different scores: there are {num_complete}")
        return
    table = make_table("parameter", "part of the variance", "± of the forests")
    for name, (mean, deviation) in sorted(importances.items(), key=lambda item: -item[1][0]):
        table.add_row(name, f"{mean:.2f}", f"{deviation:.2f}")
    console.print(table)
    console.print(
        f"by functional ANOVA of {num_complete} complete trials; ±: over {findings.NUM_FORESTS} random forests of "
        "these trials; other trials would differ by more; parameters that only some trials have are left out"
    )
    if pruned := found.of(TrialState.PRUNED):
        trials = counted(len(pruned), "pruned trial")
        verb = "is" if len(pruned) == 1 else "are"
        console.print(f"{trials} {verb} left out: a score at pruning says too little")


def _print_best(console: Console, found: Findings) -> None:
    best = found.best
    if best is None:
        return
    console.print()
    if best == found.default:
        console.print("no trial is better than the defaults")
    elif found.gain is None:
        console.print("the best trial is not confirmed on fresh seeds: sweeps.run does that at the end")
    else:
        console.print(f"trial {best.number} on fresh seeds, held-out images: {found.gain}")
    console.print(f"to repeat trial {best.number}:\n  {best.user_attrs[objective.COMMAND]}")
    console.print(f"its settings under the full protocol:\n  {_full_command(found, best)}")


def _full_command(found: Findings, best: FrozenTrial) -> str:
    where = {"pair": pair_settings(PairConfig(**found.settings["pair"])), "data": found.settings["data"]["name"]}
    words = as_overrides(best.user_attrs[objective.PRESET] | where)
    return command_line(["python", "-m", "benchmarks.run", *words])


def _export(console: Console, found: Findings, path: Path) -> None:
    if found.best is None:
        raise UserError(f"export={path}: no trial of the study is complete")
    settings: dict[str, Any] = found.best.user_attrs[objective.PRESET]
    head = f"# trial {found.best.number} of study {found.study.study_name}, {score_of(found.best):.2f} % top-1\n"
    write_text(path, head + yaml.safe_dump(settings, sort_keys=False))
    console.print(f"wrote {path}: python -m benchmarks.run preset={path} pair=…")


def show_list(config: DictConfig, given: frozenset[str]) -> int:
    """List the studies of a storage."""
    fill_storage(config)
    with in_use(config.storage, remedy=""):
        console, names = make_console(), findings.names(config.storage)
    console.print(f"studies in {hidden(config.storage)}: {len(names)}")
    for name in names:
        console.print(f"  {name}")
    return 0


COMMAND = Command(
    name="sweeps.show",
    summary="what a study found: best trials, importances, figures, and the overrides that repeat the best",
    examples=EXAMPLES,
    config=ShowConfig,
    run=execute,
    verbs={"list": Verb(show_list, ("storage", "output"))},
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
