"""Where files lay on the machine that ran: of use there, and nobody's business in logs that are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from analysis.configs import DATA_PLACES
from analysis.logs import Logs
from benchmarks import metrics
from benchmarks.overrides import as_overrides
from benchmarks.words import command_line, words_of

# Paths in sections of a run's configuration, beside its `output`.
PLACES = {"data": DATA_PLACES, "teacher": {"root", "checkpoint", "source"}}
CHECKPOINT = "teacher.checkpoint="  # the one path in the command that repeats a run


def without_places(logs: Logs) -> Logs:
    """The same logs, of each path only the last name, of a run's folder what is below its source.

    Links to W&B's pages stay.
    """
    runs = logs.runs
    local = ~runs["folder"].str.contains("://", regex=False)
    folders = [_below(*both) for both in zip(runs["folder"], runs["source"], strict=True)]
    public = runs.assign(
        folder=runs["folder"].mask(local, folders),
        source=runs["source"].mask(local, runs["source"].map(_name)),
        config=runs["config"].map(_config),
        summary=runs["summary"].map(lambda summary: _named(summary, {metrics.ARTIFACTS})),
    )
    return replace(logs, runs=public, notes=tuple(_note(note, set(runs["source"])) for note in logs.notes))


def _name(path: Any) -> Any:
    return PurePosixPath(path).name if isinstance(path, str) else path


def _below(folder: str, source: str) -> str:
    path = PurePosixPath(folder)
    return str(path.relative_to(source)) if path.is_relative_to(source) else path.name


def _note(note: str, sources: set[str]) -> str:
    for source in sources:
        note = note.replace(f"{source.rstrip('/')}/", "")
    return note


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    public = _named(config, {"output"})
    for section, places in PLACES.items():
        if isinstance(public.get(section), Mapping):
            public[section] = _named(public[section], places)
    if isinstance(public.get("command"), str):
        public["command"] = command_line(map(_word, words_of(public["command"])))
    return public


def _word(word: str) -> str:
    if not word.startswith(CHECKPOINT):
        return word
    name = _name(word.removeprefix(CHECKPOINT).strip("'\""))
    return as_overrides({"teacher": {"checkpoint": name}})[0]


def _named(content: Mapping[str, Any], places: set[str]) -> dict[str, Any]:
    return {key: _name(value) if key in places else value for key, value in content.items()}
