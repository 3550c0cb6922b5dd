"""`python -m benchmarks.status`: progress of the grids in an output folder, wherever they are trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from benchmarks.cli import Command, main
from benchmarks.console import make_console
from benchmarks.files import check_path
from benchmarks.suite import overview
from benchmarks.suite.states import FOLDER, Reader, plans
from methods import option


@dataclass(frozen=True)
class StatusConfig:
    """Where to look."""

    output: str = option("runs", "folder for runs and teachers")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """Print every grid of the folder."""
    check_path("output", config.output)
    console, output = make_console(), Path(config.output)
    found = plans(output)
    if not found:
        console.print(f"no grid in {output / FOLDER}: start one with python -m benchmarks.suite")
    for path in found:
        grid = Reader(path, output).read()
        console.print(overview.render(grid))
        for note in overview.notes(grid):
            console.print(note)
        console.print(f"logs: {path.parent}")
    if found:
        console.print(overview.legend())
    return 0


COMMAND = Command(
    name="benchmarks.status",
    summary="progress of the grids in an output folder, whichever process or machine trains them",
    examples=("python -m benchmarks.status", "python -m benchmarks.status output=/shared/runs"),
    config=StatusConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
