"""`python -m benchmarks.run`: distil one student, or a cohort of students under one teacher."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks import data
from benchmarks.cli import Command, main
from benchmarks.config import DataConfig, PairConfig, RunConfig
from benchmarks.distillation import Distillation
from benchmarks.help import overview
from benchmarks.pairs import PAIRS
from benchmarks.protocol import resolve
from methods import available, configure

NAME = "benchmarks.run"
SUMMARY = "distil a student from a teacher, tracked in W&B; the teacher is trained first if there is none"
EXAMPLES = (
    "python -m benchmarks.run method=aftkd pair=vgg13_vgg8 data=digits",
    "KD_DATA=/data python -m benchmarks.run method=kd pair=vgg13_vgg8 seed=1",
    "python -m benchmarks.run methods=[none,kd,at,aftkd] pair=vgg13_vgg8 data=digits",
)


def groups() -> dict[str, dict[str, Any]]:
    """What method=, pair= and data= choose from."""
    return {
        "method": {name: configure(name) for name in available()},
        "pair": {name: PairConfig(name, *pair) for name, pair in PAIRS.items()} | {"custom": PairConfig()},
        "data": {name: DataConfig(name) for name in data.INFO},
    }


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    run, methods = resolve(config, given)
    torch.set_num_threads(run.train.threads)
    if run.train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Distillation(run, methods, Console(soft_wrap=True, highlight=False))()


COMMAND = Command(
    name=NAME,
    summary=SUMMARY,
    examples=EXAMPLES,
    config=RunConfig,
    groups=groups(),
    defaults={"method": None, "pair": None, "data": "cifar100"},
    run=execute,
    overview=lambda: overview(NAME, SUMMARY, PAIRS, EXAMPLES),
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
