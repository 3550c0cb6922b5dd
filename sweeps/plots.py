"""Figures of a study: how it went, what each parameter did, how two block sizes act together.

Optuna's own figures leave pruned trials out and interpolate between values that were tried, as if there were block
sizes between 2 and 4; these show what was tried and what became of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks import style
from sweeps.findings import Findings
from sweeps.study import score_of

SCORE = "top-1 on held-out images, %"
COMPLETE, BEST, DEFAULT, *_ = style.PALETTE
PRUNED = style.GREY
BLOCKS = "block_size."
FORMATS = ("png", "pdf")


def draw_all(findings: Findings, folder: Path) -> list[Path]:
    """Draw what the study has trials for; returns the files."""
    written = []
    with style.applied():
        for name, draw in FIGURES.items():
            if (figure := draw(findings)) is None:
                continue
            style.note(figure, findings.study.study_name)
            for path in (folder / f"{name}.{kind}" for kind in FORMATS):
                style.save(figure, path)
                written.append(path)
    return written


def history(findings: Findings) -> Figure:
    """Scores by trial, the best so far, and where trials were pruned."""
    figure, (axes,) = style.panels([1], height=2.4)
    complete = findings.of(TrialState.COMPLETE)
    numbers, scores = [trial.number for trial in complete], [score_of(trial) for trial in complete]
    axes.plot(numbers, scores, "o", color=COMPLETE, label="complete")
    if complete:
        axes.step(numbers, np.maximum.accumulate(scores), where="post", color=BEST, label="best so far")
    if findings.default is not None:
        axes.axhline(score_of(findings.default), color=DEFAULT, linestyle="--", label="defaults")
    _mark_pruned(axes, [trial.number for trial in findings.of(TrialState.PRUNED)])
    style.whole_numbers(axes.xaxis)
    axes.set(xlabel="trial", ylabel=SCORE)
    style.legend(figure, [axes])
    return figure


def _mark_pruned(axes: Axes, positions: Sequence[float]) -> None:
    """Crosses along the lower edge: a pruned trial has no score that could be compared."""
    if positions:
        edge = axes.get_xaxis_transform()
        axes.plot(positions, [0.025] * len(positions), "x", color=PRUNED, transform=edge, label="pruned")


def curves(findings: Findings) -> Figure | None:
    """Scores by epoch, or by seed, of every finished trial; the best and the defaults on top."""
    reported = [trial for trial in findings.finished if trial.intermediate_values]
    if not reported:
        return None
    figure, (axes,) = style.panels([1], height=2.4)
    for trial in reported:
        steps, scores = _curve(trial)
        if trial.state == TrialState.PRUNED:
            axes.plot(steps, scores, color=PRUNED, linewidth=0.7)
            axes.plot(steps[-1], scores[-1], "x", color=PRUNED, zorder=3, label="pruned")  # above all curves
        else:
            axes.plot(steps, scores, color=COMPLETE, linewidth=0.7, label="complete")
    for special, color, label in ((findings.default, DEFAULT, "defaults"), (findings.best, BEST, "best")):
        if special is not None and special.intermediate_values:
            axes.plot(*_curve(special), color=color, linewidth=2, label=f"trial {special.number}, {label}")
    style.whole_numbers(axes.xaxis)
    axes.set(xlabel="seed" if findings.settings["pruner"] == "wilcoxon" else "epoch", ylabel=SCORE)
    style.legend(figure, [axes])
    return figure


def _curve(trial: FrozenTrial) -> tuple[list[int], list[float]]:
    steps = sorted(trial.intermediate_values)
    return steps, [trial.intermediate_values[step] for step in steps]


def slices(findings: Findings) -> Figure | None:
    """Scores by each parameter's value, the best as a star and the defaults as a diamond."""
    ranges = findings.ranges
    if not ranges:
        return None
    figure, panels = style.panels([len(ranges)], sharey=True)
    for axes, (name, kind) in zip(panels, ranges.items(), strict=True):
        _slice(axes, findings, name, kind)
    figure.supylabel(SCORE, fontsize="medium")
    style.legend(figure, panels)
    return figure


def _slice(axes: Axes, findings: Findings, name: str, kind: BaseDistribution) -> None:
    place = _scale(axes, kind)
    complete, pruned = (
        [trial for trial in findings.of(state) if name in trial.params]
        for state in (TrialState.COMPLETE, TrialState.PRUNED)
    )
    places = [place(trial.params[name]) for trial in complete]
    axes.plot(places, [score_of(trial) for trial in complete], "o", color=COMPLETE, alpha=0.6, label="complete")
    _mark_pruned(axes, [place(trial.params[name]) for trial in pruned])
    specials = ((findings.default, "D", DEFAULT, "defaults"), (findings.best, "*", BEST, "best"))
    for special, marker, color, label in specials:
        if special is not None and name in special.params:
            x, y = place(special.params[name]), score_of(special)
            axes.plot(x, y, marker, color=color, markersize=8, clip_on=False, label=label)
    axes.set_xlabel(name)


def _scale(axes: Axes, kind: BaseDistribution) -> Callable[[Any], float]:
    """Prepare the axis for a parameter's range; tells where a value lies: choices are side by side."""
    if isinstance(kind, CategoricalDistribution):
        axes.set_xticks(range(len(kind.choices)), [str(choice) for choice in kind.choices])
        axes.set_xlim(-0.5, len(kind.choices) - 0.5)
        return kind.choices.index
    assert isinstance(kind, FloatDistribution)
    if kind.log:
        axes.set_xscale("log")
        style.plain_numbers(axes.xaxis)
    axes.set_xlim(kind.low, kind.high)
    return float


def blocks(findings: Findings) -> Figure | None:
    """Mean score for each two stages' block sizes, with the number of complete trials; ×: only pruned ones."""
    ranges = {name: kind for name, kind in findings.ranges.items() if name.startswith(BLOCKS)}
    pairs, scores = list(itertools.combinations(ranges, 2)), [score_of(trial) for trial in findings.ranked()]
    if not pairs or not scores:
        return None
    figure, panels = style.panels([len(pairs)])
    color = Normalize(min(scores), max(scores))
    for axes, pair in zip(panels, pairs, strict=True):
        image = _heat_map(axes, findings, pair, [ranges[name] for name in pair], color)
    figure.colorbar(image, ax=panels, label=SCORE)
    figure.supxlabel("mean of the complete trials, and how many there are; ×: all were pruned", fontsize=style.NOTE)
    return figure


def _heat_map(axes: Axes, findings: Findings, pair: tuple[str, str], kinds: Sequence[Any], color: Normalize) -> Any:
    across, up = (kind.choices for kind in kinds)
    means = np.full((len(up), len(across)), np.nan)
    for (row, b), (column, a) in itertools.product(enumerate(up), enumerate(across)):
        there = [trial for trial in findings.trials if [trial.params.get(name) for name in pair] == [a, b]]
        scores = [score_of(trial) for trial in there if trial.state == TrialState.COMPLETE]
        text = "×" if any(trial.state == TrialState.PRUNED for trial in there) else ""
        if scores:
            means[row, column] = np.mean(scores)
            text = f"{means[row, column]:.1f}\n{len(scores)}"
        dark = bool(scores) and color(means[row, column]) < 0.6
        axes.text(column, row, text, ha="center", va="center", fontsize=style.NOTE, color="w" if dark else "k")
    axes.set_xticks(range(len(across)), map(str, across))
    axes.set_yticks(range(len(up)), map(str, up))
    axes.set(xlabel=pair[0], ylabel=pair[1])
    axes.grid(visible=False)
    return axes.imshow(means, origin="lower", aspect="auto", norm=color, cmap=style.HEAT)


FIGURES: Mapping[str, Callable[[Findings], Figure | None]] = {
    "history": history,
    "curves": curves,
    "slices": slices,
    "blocks": blocks,
}
