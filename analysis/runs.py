"""One logged run, wherever it was read, and the columns that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.configs import get, protocol, split_of
from benchmarks import metrics

STATES = ("complete", "stopped", "failed", "interrupted")
UNFINISHED = "unfinished"
LARGEST = 2**63  # whole numbers are below this
EXACT = 2**53  # whole numbers up to here are floats, too

INTEGERS = ("seed", "attempt", "epochs")
NESTED = ("config", "summary")
FLOATS = ("top1_last", "top1_best", "teacher_top1", "created")


@dataclass
class LoggedRun:
    """A run, or one segment of a run that was interrupted and resumed.

    Attributes:
        id: W&B's.
        source: what it was read from, as the user named it.
        folder: directory of its W&B files, or its page.
        name, group: as in W&B.
        created: when it began, in seconds since 1970.
        config, summary: nested, as logged.
        history: a column for each metric, one entry for each epoch.
        note: what could not be read of it.
    """

    id: str
    source: str = ""
    folder: str = ""
    name: str = ""
    group: str = ""
    created: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""

    @property
    def state(self) -> str:
        """`complete`, `stopped` (a pruned trial), `failed`, `interrupted`; `unfinished` where no end was logged."""
        status = self.summary.get(metrics.STATUS)
        return status if status in STATES else UNFINISHED


def column(values: Sequence[Any]) -> np.ndarray:
    """Values of one metric as an array: of floats where that changes none of them, else of objects.

    None, as W&B logs what is missing, becomes NaN among floats.
    """
    kinds = set(map(type, values))
    whole = int in kinds and any(type(value) is int and abs(value) > EXACT for value in values)
    if kinds <= {int, float, type(None)} and not whole:
        return np.array(values, dtype=np.float64)
    return objects(values)


def objects(values: Sequence[Any]) -> np.ndarray:
    """Values of any kind as an array, each left as it is."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Rows as columns; what a row lacks is None."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: column([row.get(name) for row in rows]) for name in names}


def describe(run: LoggedRun) -> dict[str, Any]:
    """A run as a row of the table of runs."""
    config, summary, split = run.config, run.summary, split_of(run.config)
    return {
        "run_id": run.id,
        "source": run.source,
        "folder": run.folder,
        "name": run.name,
        "group": run.group,
        "state": run.state,
        "created": run.created,
        "pair": get(config, "pair", "name"),
        "teacher": get(config, "pair", "teacher"),
        "student": get(config, "pair", "student"),
        "method": get(config, "method", "name"),
        "label": config.get("label") or get(config, "method", "name"),
        "data": get(config, "data", "name"),
        "split": split,
        "seed": config.get("seed"),
        "attempt": config.get("attempt"),
        "protocol": protocol(config),
        "epochs": get(config, "train", "epochs"),
        "teacher_sha256": get(config, "teacher", "sha256"),
        "commit": get(config, "code", "commit"),
        "sources": get(config, "code", "sources"),
        "device": get(config, "environment", "device"),
        "config": config,
        "summary": summary,
        "top1_last": summary.get(metrics.evaluation(split, metrics.TOP1_LAST)),
        "top1_best": summary.get(metrics.evaluation(split, metrics.TOP1_BEST)),
        "teacher_top1": summary.get(metrics.TEACHER_TOP1),
    }


def frame_of_runs(runs: Sequence[LoggedRun]) -> pd.DataFrame:
    """The table of runs, a row for each id."""
    names = list(describe(LoggedRun("")))
    rows = [describe(run) for run in runs]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in names})
    return typed(frame.set_index("run_id"))


def typed(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns of numbers as numbers, the others as text or None; configuration and summary as they are."""
    # Not by `map`: where it returns texts, pandas makes NaN of the None beside them.
    text = {
        name: pd.Series([None if value is None else str(value) for value in runs[name]], runs.index, dtype=object)
        for name in runs.columns.difference([*INTEGERS, *FLOATS, *NESTED])
    }
    whole = {name: pd.Series(map(_whole, runs[name]), runs.index, dtype="Int64") for name in INTEGERS}
    real = {name: pd.to_numeric(runs[name], errors="coerce").astype(np.float64) for name in FLOATS}
    return runs.assign(**text, **whole, **real)


def _whole(value: Any) -> int | None:
    """A whole number that the table can hold; None for what is none, as other programs may have logged."""
    fits = isinstance(value, int | float) and abs(value) < LARGEST and value == int(value)
    return int(value) if fits else None


def frame_of_history(runs: Sequence[LoggedRun]) -> pd.DataFrame:
    """The table of histories: a row for each run and epoch, in their order.

    Args:
        runs: segments, those of one run in the order in which they began; of an epoch the later one's row counts.
    """
    names = sorted({name for run in runs for name in run.history} - {metrics.EPOCH})
    runs = [run for run in runs if run.history]
    lengths = [len(run.history[metrics.EPOCH]) for run in runs]
    frame = pd.DataFrame(
        {
            "run_id": pd.Series(np.repeat([run.id for run in runs], lengths), dtype=object),
            metrics.EPOCH: _joined(runs, metrics.EPOCH, lengths).astype(np.int64),
            **{name: _joined(runs, name, lengths) for name in names},
        }
    )
    frame = frame.drop_duplicates(["run_id", metrics.EPOCH], keep="last")
    return frame.sort_values(["run_id", metrics.EPOCH], ignore_index=True)


def seconds_of(runs: pd.DataFrame, history: pd.DataFrame) -> pd.Series:
    """Wall time of each run by its id, the stage before the main training included; NaN where it was not logged."""
    if metrics.EPOCH_SECONDS not in history:
        return pd.Series(np.nan, index=runs.index)
    epochs = history.groupby("run_id")[metrics.EPOCH_SECONDS].sum(min_count=1).reindex(runs.index)
    return epochs + runs["summary"].map(lambda summary: summary.get(metrics.PRETRAINING_SECONDS) or 0.0)


def _joined(runs: Sequence[LoggedRun], name: str, lengths: Sequence[int]) -> np.ndarray:
    """One metric of all runs, NaN (None among objects) where a run does not have it."""
    parts = [run.history.get(name) for run in runs]
    missing: Any = np.nan if all(part is None or part.dtype != object for part in parts) else None
    dtype = np.float64 if missing is not None else object
    filled = [
        np.full(length, missing, dtype=dtype) if part is None else part.astype(dtype, copy=False)
        for part, length in zip(parts, lengths, strict=True)
    ]
    return np.concatenate(filled) if filled else np.empty(0, dtype=dtype)
