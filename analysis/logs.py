"""Logged runs as two tidy tables, whatever they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.runs import LoggedRun, frame_of_history, frame_of_runs
from benchmarks import metrics
from benchmarks.errors import UserError


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


def load(sources: Sequence[str]) -> Logs:
    """Read runs.

    Args:
        sources: each a directory of W&B's offline runs, entity/project on a W&B server, or a file that
            `analysis.export` wrote.

    Raises:
        UserError: a source that is none.
    """
    return merge([_read(source) for source in sources])


def _read(source: str) -> Logs:
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if path.suffix == ".parquet":
        from analysis.parquet import read

        return read(path)
    if names_project(source):
        from analysis.server import read_project

        return assemble(*read_project(source))
    raise UserError(f"source={source}: no such directory; W&B's projects are entity/project, exports FILE.parquet")


def names_project(source: str) -> bool:
    """Whether a source has the form entity/project, and not that of a path in a folder that is there."""
    parts = source.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(parts[0]).exists()


def _read_folder(folder: Path) -> Logs:
    from analysis.offline import find_files, read_files  # takes the time that wandb takes

    paths = find_files(folder)
    if not paths:
        raise UserError(f"source={folder} holds no W&B runs (files *.wandb)")
    segments, notes = read_files(paths)
    for segment in segments:
        segment.source = str(folder)
    return assemble(segments, notes)


def assemble(segments: Sequence[LoggedRun], notes: Sequence[str] = ()) -> Logs:
    """The two tables.

    Args:
        segments: of each run in the order in which they began; a run's last one says what it is.
        notes: what was left out already.
    """
    last = {segment.id: segment for segment in segments}
    runs = sorted(last.values(), key=lambda run: (run.created, run.id))
    return Logs(frame_of_runs(runs), frame_of_history(segments), tuple(notes))


def merge(logs: Sequence[Logs]) -> Logs:
    """Several sources as one. Of a run that more than one holds the complete record counts, else the last begun."""
    if len(logs) == 1:
        return logs[0]
    candidates = pd.concat([each.runs.assign(_of=k, _rank=_rank(each.runs)) for k, each in enumerate(logs)])
    candidates = candidates.sort_values(["_rank", "created", "_of"], ascending=[True, True, False], kind="stable")
    runs = candidates[~candidates.index.duplicated(keep="last")]
    kept = [each.history[each.history["run_id"].isin(runs.index[runs["_of"] == k])] for k, each in enumerate(logs)]
    history = pd.concat(kept).sort_values(["run_id", metrics.EPOCH], ignore_index=True)
    runs = runs.drop(columns=["_of", "_rank"]).sort_values(["created", "run_id"])
    runs.index = runs.index.astype(object)
    doubles = len(candidates) - len(runs)
    notes = [note for each in logs for note in each.notes]
    return Logs(
        runs, history, (*notes, *([f"{doubles} runs are in several sources and count once"] if doubles else []))
    )


def _rank(runs: pd.DataFrame) -> pd.Series:
    return (runs["state"] == "complete").astype(int)
