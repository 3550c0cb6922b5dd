"""`python -m analysis.results`: tables, figures and pages of published results, made again from their logs.

A result is a folder with `logs.parquet`, which `analysis.export` wrote, and `about.yaml`, which says in words what
was asked and found, and which commands of the analysis make its tables and figures. All else in it is made of
these two: no number is typed.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from analysis.about import ABOUT, LOGS, About, read
from benchmarks.cli import Command, main
from benchmarks.errors import RunFailed, require
from benchmarks.files import write_text
from methods import option

PAGE = "README.md"


@dataclass(frozen=True)
class ResultsConfig:
    """The command `analysis.results`."""

    folder: str = option("results", f"its folders with {ABOUT} and {LOGS} are the results")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    folders = sorted(path.parent for path in Path(config.folder).glob(f"*/{ABOUT}"))
    require(bool(folders), f"folder={config.folder} holds no result: a folder with {ABOUT} and {LOGS}")
    found = [(folder, read(folder)) for folder in folders]
    for folder, about in found:
        rebuild(folder, about)
    _write(Path(config.folder) / PAGE, _contents(config.folder, found))
    return 0


def rebuild(folder: Path, about: About) -> None:
    """Make everything of a result again, its page last.

    Raises:
        RunFailed: one of its commands did not succeed; the command said why.
    """
    with contextlib.chdir(folder):
        for product in about.make:
            command = importlib.import_module(product.module).COMMAND
            if main(command, [f"source={LOGS}", *product.words]):
                raise RunFailed(f"{folder}: {product.command}")
    from analysis.results_page import page

    _write(folder / PAGE, page(folder, about))


def _contents(name: str, found: Sequence[tuple[Path, About]]) -> str:
    """The page that leads to the results."""
    lines = [f"- [{about.title}]({folder.name}/{PAGE})" for folder, about in found]
    how = "Each page is made from the logs beside it, byte for byte where it is text, by"
    command = f"    python -m analysis.results folder={Path(name).name}"
    return "\n".join(["# Results", "", *lines, "", how, "", command, ""])


def _write(path: Path, text: str) -> None:
    write_text(path, text)
    print(path)


COMMAND = Command(
    name="analysis.results",
    summary="tables, figures and pages of published results, made again from their exported logs",
    examples=("python -m analysis.results", "python -m analysis.results folder=paper/results"),
    config=ResultsConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
