"""`python -m sweeps.run`: search a method's hyper-parameters, honestly and on as many machines as join."""

from __future__ import annotations

import sys

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from benchmarks import groups
from benchmarks.cli import Command, main
from benchmarks.console import make_console
from benchmarks.errors import UserError
from benchmarks.words import command_line
from sweeps import findings, spaces
from sweeps.conduct import conduct
from sweeps.config import StorageConfig, StudyConfig
from sweeps.plan import Plan, default_storage, prepare
from sweeps.progress import shown
from sweeps.storage import hidden, in_use
from sweeps.study import score_of


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    if OmegaConf.is_missing(config, "space"):
        raise UserError(f"choose a space=…: {', '.join(spaces.available())}")
    plan = prepare(config, given, spaces.find(config.space), config.study)
    console = make_console()
    conduct(plan, console)
    with in_use(plan.search.storage):
        _print_end(console, plan)
    return 0


def _print_end(console: Console, plan: Plan) -> None:
    """What was found, in a few lines."""
    found = findings.find(plan.search.storage, plan.name)
    if found.best is None:
        console.print("no trial is complete: all diverged or were pruned")
        return
    console.print(f"best: trial {found.best.number}, {score_of(found.best):.2f} %  {shown(found.best.params)}")
    if found.best == found.default:
        console.print("no trial is better than the defaults")
    elif found.gain is not None:
        console.print(f"on fresh seeds: {found.gain}")
    console.print(f"more, figures and a preset: {_show_command(plan)}")


def _show_command(plan: Plan) -> str:
    search = plan.search
    words = [f"study={plan.name}"]
    if search.output != StorageConfig.output:
        words.append(f"output={search.output}")
    if search.storage != default_storage(search.output):
        words.append(f"storage={hidden(search.storage)}")
    return command_line(["python", "-m", "sweeps.show", *words])


def overview(command: Command) -> str:
    """The spaces and examples."""
    lines = [f"python -m {command.name}: {command.summary}", "", "Spaces (space=…):"]
    lines += [f"  {space.name:15} {space.summary}" for space in spaces.SPACES.values()]
    lines += [f"  {'a method':15} its own hyper-parameters: {', '.join(spaces.methods())}"]
    lines += ["", "Examples:", *(f"  {example}" for example in command.examples)]
    lines += ["", f"python -m {command.name} help shows all settings; python -m sweeps.show what a study found."]
    return "\n".join(lines)


COMMAND = Command(
    name="sweeps.run",
    summary=(
        "tune hyper-parameters with Optuna on held-out training images; the same command elsewhere joins the study"
    ),
    examples=(
        "python -m sweeps.run space=aftkd pair=vgg13_vgg8 data=digits trials=20 workers=2",
        "python -m sweeps.run space=aftkd_blocks pair=vgg13_vgg8 trials=50 storage=postgresql://kd@host/studies",
        "python -m sweeps.run space=loss_schedule method=at pair=vgg13_vgg8 trials=30",
    ),
    config=StudyConfig,
    groups=groups.of_a_run,
    defaults=groups.DEFAULTS,
    run=execute,
    overview=overview,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
