"""What `source=` names, told apart and checked without reading it. Light, so that mistakes are told at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

from benchmarks.errors import UserError, require


class SourceKind(Enum):
    """What a source is: a directory of W&B's offline runs, a file of `analysis.export`, or a W&B project."""

    folder = auto()
    file = auto()
    project = auto()


def kind_of(source: str) -> SourceKind:
    """What a source is.

    Raises:
        UserError: there is nothing of that name, or no run in it.
    """
    path = Path(source)
    if path.is_dir():
        found = next(wandb_files(path), None)
        require(found is not None, f"source={source} holds no W&B runs (files *.wandb)")
        return SourceKind.folder
    if path.suffix == ".parquet":
        require(path.is_file(), f"source={source}: no such file")
        return SourceKind.file
    if _names_project(source):
        return SourceKind.project
    raise UserError(f"source={source}: no such directory; a W&B project is entity/project, an export FILE.parquet")


def wandb_files(folder: Path) -> Iterator[Path]:
    """The `.wandb` files below a folder, each once: links such as W&B's `latest-run` are not followed."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".wandb"))


def _names_project(source: str) -> bool:
    """Whether a source has the form entity/project, and not that of a path in a folder that is there."""
    parts = source.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(parts[0]).exists()
