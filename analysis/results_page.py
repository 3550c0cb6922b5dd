"""The page of a published result: what was found, and from the logs alone what it was made with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.about import LOGS, About, Product
from analysis.configs import get, machine_of
from analysis.logs import Logs, load
from analysis.runs import seconds_of
from benchmarks.clock import duration
from benchmarks.words import command_line, words_of

PICTURES = (".png", ".svg")  # that a page of Markdown shows


def page(folder: Path, about: About) -> str:
    """Markdown: the words of `about`, its tables and figures with their commands, and how they came about."""
    logs = load(str(folder / LOGS))
    parts = [f"# {about.title}", about.about, *(_shown(folder, product) for product in about.make)]
    return "\n\n".join([*parts, "## How it was made", _facts(logs), *_repeats(logs)]) + "\n"


def _shown(folder: Path, product: Product) -> str:
    """What a command made, and how to make it again."""
    tables = [name for name in product.files if name.endswith(".md")]
    pictures = [name for name in product.files if name.endswith(PICTURES)][:1]
    parts = [(folder / name).read_text(encoding="utf-8").strip() for name in tables]
    parts += [f"![{name}]({name})" for name in pictures]
    others = [name for name in product.files if name not in tables + pictures]
    others += [f"{name}.provenance.json" for name in product.files if product.module == "analysis.table"]
    links = ", ".join(f"[{name}]({name})" for name in others)
    return "\n\n".join([*parts, *filter(None, [links]), f"    {product.command}"])


def _facts(logs: Logs) -> str:
    """Hardware, versions, code, teachers and time as a table."""
    runs = logs.runs
    taught = runs.dropna(subset=["teacher_sha256", "teacher_top1"])  # a run that was stopped names no accuracy
    lines = {
        "runs": _listed(f"{count} {state}" for state, count in runs["state"].value_counts().items()),
        "protocol": _listed(runs["protocol"]),
        "hardware": _listed(map(_hardware, runs["config"])),
        "software": _listed(map(_software, runs["config"])),
        "code": _listed(map(_code, runs["commit"], runs["sources"])),
        "teachers": _listed(_teacher(run) for _, run in taught.iterrows()),
    }
    if not math.isnan(seconds := seconds_spent(logs)):
        lines["time spent"] = duration(seconds)
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in lines.items() if text)])


def _listed(texts: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(map(str, texts)))


def _code(commit: str | None, sources: str | None) -> str:
    """Which code computed a run; without git its sources, by their hash, tell."""
    return f"commit {commit}" if commit else f"sources {sources}"


def _hardware(config: dict[str, Any]) -> str:
    return f"{machine_of(config)}, {get(config, 'train', 'precision')}"


def _software(config: dict[str, Any]) -> str:
    environment = get(config, "environment")
    libraries = get(environment, "libraries") or {}
    versions = {"Python": get(environment, "python"), **libraries, "CUDA": get(environment, "cuda")}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _teacher(run: pd.Series) -> str:
    return f"{run['teacher']}, {run['teacher_top1']:.2f} % top-1, SHA-256 {run['teacher_sha256'][:12]}"


def seconds_spent(logs: Logs) -> float:
    """Wall time of all runs; a cohort's members spent it together, so it counts once. NaN where none was logged."""
    alike = logs.runs["config"].map(_alike)
    place = logs.runs.groupby([alike, "label"]).cumcount()  # of two under one label each is of another cohort
    return float(seconds_of(logs.runs, logs.history).groupby([alike, place]).max().sum(min_count=1))


def _alike(config: dict[str, Any]) -> str:
    """What the members of one cohort have in common; with other settings or teachers that can be several."""
    return repr([config.get(key) for key in ("pair", "data", "seed", "train", "attempt", "cohort")])


def _repeats(logs: Logs) -> Iterator[str]:
    """The commands that repeat the runs, one by one."""
    logged = [words_of(config.get("command")) for config in logs.runs["config"]]
    commands = sorted({command_line(words) for words in logged if words})
    if commands:
        yield "To repeat each run:\n\n" + "\n".join(f"    {command}" for command in commands)
