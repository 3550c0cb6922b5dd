"""What is said of a published result: the words of its `about.yaml`. Light, so that mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import UserError, first_line, require
from benchmarks.words import command_line, words_of

ABOUT, LOGS = "about.yaml", "logs.parquet"
MAKERS = ("analysis.table", "analysis.plot", "analysis.report")


@dataclass(frozen=True)
class Product:
    """A command of the analysis without its source, and the files that it writes."""

    module: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """As it is typed in the result's folder."""
        return command_line(["python", "-m", self.module, f"source={LOGS}", *self.words])

    @property
    def files(self) -> list[str]:
        """What `out=` names."""
        (out,) = [word.removeprefix("out=") for word in self.words if word.startswith("out=")]
        return out.strip("[]").split(",")


@dataclass(frozen=True)
class About:
    """What a result is, and how it is shown."""

    title: str
    about: str
    make: tuple[Product, ...]


def read(folder: Path) -> About:
    """What is said of a result.

    Raises:
        UserError: a file is missing, or cannot be understood.
    """
    path = folder / ABOUT
    require((folder / LOGS).is_file(), f"{folder}: {LOGS} is missing; `python -m analysis.export` writes it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None
    keys = {"title": str, "about": str, "make": list}
    if not isinstance(content, dict) or {key: type(value) for key, value in content.items()} != keys:
        raise UserError(f"{path}: give title and about (texts) and make (a list of commands), nothing else")
    return About(
        content["title"], content["about"].strip(), tuple(_product(path, line) for line in content["make"])
    )


def _product(path: Path, line: Any) -> Product:
    module, *words = words_of(str(line)) or [""]
    if module not in MAKERS or not any(word.startswith("out=") for word in words):
        raise UserError(f"{path}: make: {line}: give one of {', '.join(MAKERS)}, with out=FILE")
    return Product(module, tuple(words))
