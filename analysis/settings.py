"""What the commands of the analysis can be told. Light, so that help and mistakes need no pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from analysis.sources import kind_of
from benchmarks.errors import UserError, require
from methods import option
from methods.config import coerce_types

SOURCE = "directory of runs, entity/project on a W&B server, or FILE.parquet of analysis.export; several as [a,b]"
VARIANTS = "show methods in other settings than usual, too; false: of these only what methods= names"


class Epoch(StrEnum):
    last = "last"
    best = "best"


class Measure(StrEnum):
    """What of an evaluation is compared, by its name in the logs."""

    top1 = "top1"
    top5 = "top5"
    loss = "loss"
    ece = "ece"
    agreement = "agreement"
    teacher_kl = "teacher_kl"

    @property
    def words(self) -> str:
        """What it is, and in which unit."""
        return _WORDS[self]

    @property
    def unit(self) -> str:
        """Of its differences."""
        return "nats" if "nats" in self.words else "points"

    @property
    def sign(self) -> int:
        """1 where more is better, −1 where less is."""
        return -1 if self in (Measure.loss, Measure.ece, Measure.teacher_kl) else 1


_WORDS = {
    Measure.top1: "top-1 in %",
    Measure.top5: "top-5 in %",
    Measure.loss: "cross entropy in nats",
    Measure.ece: "calibration error in %",
    Measure.agreement: "agreement with the teacher in %",
    Measure.teacher_kl: "KL divergence from the teacher in nats",
}


class PublishedRows(StrEnum):
    """Which published figures stand beside the measured ones."""

    none = "none"
    shown = "shown"
    all = "all"


class Format(StrEnum):
    auto = "auto"
    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"
    html = "html"
    csv = "csv"


SUFFIXES = {
    ".txt": Format.terminal,
    ".md": Format.markdown,
    ".tex": Format.latex,
    ".html": Format.html,
    ".csv": Format.csv,
}


@dataclass(frozen=True)
class Layout:
    """What a table shows.

    Raises:
        InvalidSetting: none of a setting's choices.
    """

    epoch: Epoch = option(
        Epoch.last, "last, or best: chosen on the evaluation data itself, which flatters; marked as such"
    )
    measure: Measure = option(
        Measure.top1, "what is compared: " + ", ".join(f"{name} ({words})" for name, words in _WORDS.items())
    )
    methods: list[str] = option([], "rows in this order, by name, label or method; default: all")
    variants: bool = option(True, VARIANTS)
    pairs: list[str] = option([], "columns; default: all")
    protocol: str | None = option(None, "part of a protocol's name; default: a table for each, never mixed")
    names: dict[str, str] = option(
        {},
        "other names of rows and networks in tables, as {aftkd: AFT-KD, vgg13: VGG-13}; not in CSV and provenance",
    )
    groups: bool = option(True, "a table for pairs of the same architecture and one for the others")
    gain: bool = option(True, "rows with the gain over the student alone")
    published: PublishedRows = option(
        PublishedRows.none, "published figures in rows of their own: none, shown (of these methods), all"
    )
    baseline: str = option("kd", "what the average relative improvement is counted against", source="CRD: KD")
    compare: str | None = option(None, "test all methods against this one: intervals, p-values, probabilities")
    alpha: float = option(0.05, "level of the tests")
    seed: int = option(0, "of the bootstraps' random draws")

    def __post_init__(self) -> None:
        coerce_types(self)

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: naming key and value.
        """
        require(0 < self.alpha < 1, f"alpha={self.alpha:g} must be between 0 and 1")
        require(self.seed >= 0, f"seed={self.seed} must be at least 0")
        if self.measure != Measure.top1:
            what = f"measure={self.measure} takes no"
            require(self.epoch == Epoch.last, f"{what} epoch=best: the best epoch is known of top1 alone")
            require(self.published == PublishedRows.none, f"{what} published figures, which are of top1")


@dataclass(frozen=True)
class TableConfig(Layout):
    """The command `analysis.table`."""

    source: Any = option("runs", SOURCE)
    format: Format = option(Format.auto, "terminal, markdown, latex, html, csv; auto: by the suffix of out")
    out: str | None = option(None, "file to write, its provenance beside it; default: print")


@dataclass(frozen=True)
class ExportConfig:
    """The command `analysis.export`."""

    source: Any = option("runs", SOURCE)
    out: str = option("???", "FILE.parquet")
    paths: bool = option(True, "keep where files lay on the machine that ran; false: names only, for publication")


def sources_of(source: Any) -> list[str]:
    """The sources that `source=` names.

    Raises:
        UserError: none, or one that is not there.
    """
    names = [source] if isinstance(source, str) else source
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"source={source}: give a {SOURCE}")
    for name in names:
        kind_of(name)
    return list(names)


def format_of(chosen: Format, out: str | None) -> Format:
    """The format of a table, by what was chosen or the file's suffix.

    Raises:
        UserError: the suffix says nothing.
    """
    if chosen != Format.auto:
        return chosen
    if out is None:
        return Format.terminal
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"out={out}: name the format, or end the file in {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]
