"""What figures can be told. Light, so that help and mistakes need no matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from analysis.settings import SOURCE, VARIANTS, Epoch
from benchmarks.errors import require
from methods import option
from methods.config import coerce_types


class FigureKind(StrEnum):
    curves = "curves"
    ablation = "ablation"
    sensitivity = "sensitivity"
    blocks = "blocks"
    weights = "weights"
    pareto = "pareto"
    ranks = "ranks"
    gain = "gain"
    correlation = "correlation"
    tsne = "tsne"
    attention = "attention"


MEANING = {
    FigureKind.curves: "a metric over epochs: mean and band over seeds",
    FigureKind.ablation: "variants of a method against its default: paired differences and their intervals",
    FigureKind.sensitivity: "accuracy over the values of a method's setting, all else equal",
    FigureKind.blocks: "AFT-KD's block sizes and accuracy, by setting and by stage",
    FigureKind.weights: "loss terms over epochs, and what multiplies them",
    FigureKind.pareto: "accuracy against parameters, multiply–accumulates or training time",
    FigureKind.ranks: "mean ranks over pairs with the critical difference",
    FigureKind.gain: "paired differences to the student alone, seed by seed",
    FigureKind.correlation: "how far the correlation of a student's logits is from its teacher's",
    FigureKind.tsne: "embeddings of teacher and students in the plane",
    FigureKind.attention: "attention maps of teacher and student on sample images, and what AFT-KD compares",
}


class Cost(StrEnum):
    """What accuracy is set against."""

    parameters = "parameters"
    macs = "macs"
    time = "time"


def _with(*kinds: FigureKind) -> dict[str, Any]:
    """Of an option that acts for these kinds alone."""
    live: Callable[[Any], bool] = lambda options: options.kind in kinds  # noqa: E731
    return {"live": live, "live_when": "with kind=" + " or ".join(kinds)}


def _without(*kinds: FigureKind) -> dict[str, Any]:
    others = _with(*(kind for kind in FigureKind if kind not in kinds))
    return others | {"live_when": "with other kinds than " + ", ".join(kinds)}


@dataclass(frozen=True)
class PlotConfig:
    """The command `analysis.plot`."""

    kind: FigureKind = option(
        "???", "what to show: " + "; ".join(f"{kind}: {MEANING[kind]}" for kind in FigureKind)
    )
    source: Any = option("runs", SOURCE)
    out: Any = option(None, "FILE.pdf, FILE.png or FILE.svg; several as [a.pdf,b.png]; default: the kind as PDF")
    methods: list[str] = option([], "rows of a table in this order, by name, label or method; default: all")
    variants: bool = option(
        True,
        VARIANTS,
        **_without(FigureKind.ablation, FigureKind.sensitivity, FigureKind.blocks),  # which are of them
    )
    pairs: list[str] = option([], "default: all")
    protocol: str | None = option(
        None, "part of a protocol's name, where the logs hold several: they never share a figure"
    )
    epoch: Epoch = option(
        Epoch.last,
        "last, or best: chosen on the evaluation data itself, which flatters; marked as such",
        **_with(
            FigureKind.ablation,
            FigureKind.sensitivity,
            FigureKind.blocks,
            FigureKind.pareto,
            FigureKind.ranks,
            FigureKind.gain,
        ),
    )
    metric: str | None = option(
        None,
        "what to show over epochs, as it is logged; default: top-1 of the evaluation",
        **_with(FigureKind.curves),
    )
    start: int = option(1, "first epoch to show", **_with(FigureKind.curves, FigureKind.weights))
    method: str | None = option(
        None,
        "whose variants; default: the only method that has any; of sensitivity all",
        **_with(FigureKind.ablation, FigureKind.sensitivity, FigureKind.blocks),
    )
    setting: str | None = option(
        None,
        "which, as behind method. on the command line (temperature, weights.kd), or loss.…; default: each that has "
        "three values or more",
        **_with(FigureKind.sensitivity),
    )
    reference: str = option("none", "the row that differences are counted from", **_with(FigureKind.gain))
    x: Cost = option(
        Cost.parameters, "parameters, macs (of one image) or time (of the training)", **_with(FigureKind.pareto)
    )
    alpha: float = option(
        0.05, "level of the tests", **_with(FigureKind.ablation, FigureKind.ranks, FigureKind.gain)
    )
    seed: int | None = option(
        None,
        "whose arrays to show; default: the lowest that wrote them",
        **_with(FigureKind.correlation, FigureKind.tsne, FigureKind.attention),
    )
    classes: int = option(10, "how many of the first classes to show", **_with(FigureKind.tsne))
    samples: int = option(3, "how many images to show, at most 8", **_with(FigureKind.attention))

    def __post_init__(self) -> None:
        coerce_types(self)

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: naming key and value.
        """
        require(0 < self.alpha < 1, f"alpha={self.alpha:g} must be between 0 and 1")
        require(self.start >= 1, f"start={self.start} must be at least 1")
        require(self.classes >= 2, f"classes={self.classes} must be at least 2")
        require(1 <= self.samples <= 8, f"samples={self.samples} must be from 1 to 8")
