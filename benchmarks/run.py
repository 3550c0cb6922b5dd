"""`python -m benchmarks.run`: distil one student, or a cohort of students under one teacher."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from benchmarks import groups
from benchmarks.cli import Command, main
from benchmarks.config import RunConfig
from benchmarks.console import make_console
from benchmarks.distillation import Distillation
from benchmarks.overview import overview
from benchmarks.protocol import resolve


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    run, variants = resolve(config, given)
    return Distillation(run, variants, make_console())()


COMMAND = Command(
    name="benchmarks.run",
    summary="distil a student from a teacher, tracked in W&B; the teacher is trained first if there is none",
    examples=(
        "python -m benchmarks.run method=aftkd pair=vgg13_vgg8 data=digits",
        "KD_DATA=/data python -m benchmarks.run method=kd pair=vgg13_vgg8 seed=1",
        "python -m benchmarks.run 'methods=[none,kd,at,aftkd]' pair=vgg13_vgg8 data=digits",
    ),
    config=RunConfig,
    groups=groups.of_a_run,
    defaults=groups.DEFAULTS,
    run=execute,
    lists={"seeds": "benchmarks.suite", "pairs": "benchmarks.suite"},
    overview=overview,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
