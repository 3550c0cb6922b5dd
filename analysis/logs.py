"""Logged runs as two tidy tables, whatever they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.runs import LoggedRun, frame_of_history, frame_of_runs
from analysis.sources import SourceKind, kind_of
from benchmarks import metrics


@dataclass(frozen=True)
class Logs:
    """Runs and their histories.

    Attributes:
        runs: a row for each run, by its id; see `analysis.runs.describe` for the columns.
        history: a row for each run and epoch, sorted: `run_id`, `epoch` and the metrics as they were logged.
        notes: what was damaged or left out in reading.
    """

    runs: pd.DataFrame
    history: pd.DataFrame
    notes: tuple[str, ...] = ()


def load(sources: str | Sequence[str]) -> Logs:
    """Read runs.

    Args:
        sources: one or several: a directory of W&B's offline runs, entity/project on a W&B server, or a file that
            `analysis.export` wrote.

    Raises:
        UserError: a source that is none.
    """
    return merge([_read(source) for source in ([sources] if isinstance(sources, str) else sources)])


def _read(source: str) -> Logs:
    """One source; each reader takes the time that its libraries take to be imported."""
    match kind_of(source):
        case SourceKind.folder:
            from analysis.offline import read_files

            return assemble(*read_files(source))
        case SourceKind.file:
            from analysis.parquet import read

            return Logs(*read(Path(source)))
        case SourceKind.project:
            from analysis.server import read_project

            return assemble(*read_project(source))


def assemble(segments: Sequence[LoggedRun], notes: Sequence[str] = ()) -> Logs:
    """The two tables.

    Args:
        segments: of each run in the order in which they began; a run's last one says what it is.
        notes: what was left out already.
    """
    last: dict[str, LoggedRun] = {}
    kept = []
    for segment in segments:
        before = last.get(segment.id)
        if before is None or before.state != "complete" or segment.state == "complete":
            last[segment.id] = segment
            kept.append(segment)
    if late := len(segments) - len(kept):
        notes = [*notes, f"segments begun after their run was complete, and not so themselves, left out: {late}"]
    runs = sorted(last.values(), key=lambda run: (run.created, run.id))
    return Logs(frame_of_runs(runs), frame_of_history(kept), tuple(notes))


def merge(logs: Sequence[Logs]) -> Logs:
    """Several sources as one. Of a run that more than one holds the complete record counts, else the last begun."""
    if len(logs) == 1:
        return logs[0]
    candidates = pd.concat([each.runs.assign(_of=k) for k, each in enumerate(logs)])
    candidates["_whole"] = candidates["state"] == "complete"
    candidates = candidates.sort_values(["_whole", "created", "_of"], ascending=[True, True, False], kind="stable")
    runs = candidates[~candidates.index.duplicated(keep="last")]
    kept = [each.history[each.history["run_id"].isin(runs.index[runs["_of"] == k])] for k, each in enumerate(logs)]
    history = pd.concat(kept).sort_values(["run_id", metrics.EPOCH], ignore_index=True)
    runs = runs.drop(columns=["_of", "_whole"]).sort_values(["created", "run_id"])
    runs.index = runs.index.astype(object)
    doubles = len(candidates) - len(runs)
    notes = [note for each in logs for note in each.notes]
    return Logs(
        runs, history, (*notes, *([f"runs in several sources, which count once: {doubles}"] if doubles else []))
    )
