"""`python -m benchmarks.pairs`: the pairs with their costs, published accuracies and teachers in the store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from benchmarks import data, groups, published
from benchmarks.cli import Command, main
from benchmarks.config import StoreConfig
from benchmarks.console import make_console, make_table
from benchmarks.costs import cost
from benchmarks.files import CARD, check_path, read_record
from benchmarks.pairs import PAIRS
from benchmarks.protocol import fill_store
from methods import option


@dataclass(frozen=True)
class PairsConfig:
    """What the table shows."""

    data: Any = option(None, "the data set")
    teacher: StoreConfig = option(StoreConfig, "the teacher store")
    output: str = option("runs", "folder for runs and teachers")


COLUMNS = ("pair", "parameters, M", "MACs, M", "ratio", "published, %", "in the store")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """Print the table."""
    name = config.data.name
    fill_store(config)
    check_path("teacher.root", config.teacher.root)
    info = data.INFO[name]
    table = make_table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right", no_wrap=True)
    for pair, (teacher, student) in PAIRS.items():
        costs = cost(teacher, info), cost(student, info)
        table.add_row(
            pair,
            " → ".join(f"{each.parameters / 1e6:.2f}" for each in costs),
            " → ".join(f"{each.macs / 1e6:.1f}" for each in costs),
            f"{costs[0].parameters / costs[1].parameters:.1f}",
            " → ".join(_published(name, teacher, student, role) for role in ("teacher", "student")),
            _stored(Path(config.teacher.root), teacher, name),
        )
    console = make_console()
    console.print(f"{name}: teacher → student; ratio of parameters; top-1 published and in {config.teacher.root}")
    console.print(table)
    _print_sources(console, name)
    return 0


def _published(data_name: str, teacher: str, student: str, role: str) -> str:
    figure = published.find(data_name, teacher, student, role)
    return "–" if figure is None else f"{figure.top1:.2f}"


def _stored(root: Path, network: str, data_name: str) -> str:
    """Teachers of a network that are in the store."""
    entries = []
    for path in sorted((root / network).glob(f"*/{CARD}")):
        try:
            card = read_record(path)
            if card["data"] == data_name and not card["validation"]:
                entries.append(f"{card['top1']:.2f} ({card['protocol']['epochs']} ep)")
        except (ValueError, KeyError, TypeError, OSError):
            entries.append(f"damaged: {path.parent.name}")
    return "; ".join(entries) or "–"


def _print_sources(console: Console, data_name: str) -> None:
    alone = {
        figure.source for figure in published.figures() if (figure.data, figure.method) == (data_name, "student")
    }
    for source in sorted(alone):
        console.print(f"published, 240 epochs: {source}")


COMMAND = Command(
    name="benchmarks.pairs",
    summary="the teacher–student pairs with their costs, published accuracies and teachers in the store",
    examples=("python -m benchmarks.pairs", "python -m benchmarks.pairs data=digits teacher.root=teachers"),
    config=PairsConfig,
    groups=lambda: {"data": groups.data_sets()},
    defaults=groups.DEFAULTS,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
