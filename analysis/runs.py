"""One logged run, wherever it was read, and the columns that it becomes."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import metrics
from benchmarks.hashing import short_hash
from benchmarks.words import counted

STATES = ("complete", "stopped", "failed", "interrupted")
UNFINISHED = "unfinished"
EXACT = 2**53  # whole numbers up to here are floats, too

DATA_PLACES = {"root", "cache"}  # settings of where the data lie, which changes no result
DISTILLATION = {"optimizer", "delta"}  # settings of training that a student alone cannot have
# Where the protocol is configured, and what is no part of it there: what a run computes on, where its data lie, the
# learning rate, which is the student's and so the pair's, and what only distillation has, which tells rows apart.
PROTOCOL = {
    "train": {"device", "threads", "deterministic", "compile", "graph", "lr"} | DISTILLATION,
    "data": DATA_PLACES,
}

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


def get(content: Any, *path: str) -> Any:
    """A value deep in nested mappings; None where there is no such place."""
    for key in path:
        content = _mapping(content).get(key)
    return content


def _mapping(content: Any) -> Mapping[str, Any]:
    """Itself if it is a mapping, else an empty one: runs of other programs may hold anything."""
    return content if isinstance(content, Mapping) else {}


def without(content: Any, keys: Collection[str]) -> dict[str, Any]:
    """A mapping less some of its keys."""
    return {key: value for key, value in _mapping(content).items() if key not in keys}


def split_of(config: Mapping[str, Any]) -> str:
    """What a run was evaluated on: "val", a part of the training set, or "test"."""
    return "val" if get(config, "data", "validation") else "test"


def machine_of(config: Mapping[str, Any]) -> str:
    """What a run computed on, with what may change the last bits there, in words."""
    environment, train = _mapping(config.get("environment")), _mapping(config.get("train"))
    words = [str(environment.get("device"))]
    if train.get("device") == "cpu":
        capability = environment.get("cpu_capability")
        words = [f"{words[0]} ({capability})" if capability else words[0], counted(train.get("threads"), "thread")]
    words += ["deterministic"] if train.get("deterministic") else []
    return printable(", ".join(words))


def torch_of(config: Mapping[str, Any]) -> str | None:
    """The version of torch that a run computed with."""
    version = get(config, "environment", "libraries", "torch")
    return None if version is None else printable(str(version))


def _codes_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What computed a run: the versions of the code that began it, and the one that ended it."""
    return [*map(_mapping, get(config, "code", "before") or ()), _mapping(config.get("code"))]


def versions_of(config: Mapping[str, Any]) -> frozenset[Any]:
    """The versions of the code that computed a run, mostly one."""
    return frozenset(code.get("sources") for code in _codes_of(config))


def method_code_of(config: Mapping[str, Any]) -> str | None:
    """The version of the method's own file that computed a run, as `_version_of` tells it."""
    return _version_of(config, "method_sources")


def network_code_of(config: Mapping[str, Any]) -> str | None:
    """The version of the files of student network and data set that computed a run, as `_version_of` tells it."""
    return _version_of(config, "network_sources")


def _version_of(config: Mapping[str, Any], files: str) -> str | None:
    """The version of some files that computed a run, in a few letters; older logs do not say.

    Where they were changed while the run was interrupted, all versions, joined by "+".
    """
    found = [str(code[files])[:6] for code in _codes_of(config) if code.get(files)]
    return "+".join(dict.fromkeys(found)) or None


def unusual_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run's method and loss weights were told beyond the usual, as typed; older logs do not say."""
    return tuple(map(str, config.get("unusual") or ()))


def protocol_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The part of a configuration that must agree before two runs may be averaged or compared.

    Method, loss weights, pair, seed, and the machine are left out; so are teacher and learning rate, which are
    the pair's, and what only distillation has: the student alone is compared with it all the same.
    """
    return {section: without(config.get(section), apart) for section, apart in PROTOCOL.items()}


def protocol(config: Mapping[str, Any]) -> str:
    """The protocol in a few words and a hash."""
    content = protocol_of(config)
    train = content["train"]
    words = [str(get(config, "data", "name")), split_of(config), counted(train.get("epochs"), "epoch")]
    words += [f"of {counted(train['max_steps'], 'step')}"] if train.get("max_steps") else []
    words += [str(train["precision"])] if train.get("precision") else []
    return printable(f"{' '.join(words)} {short_hash(content, 6)}")


def printable(name: str) -> str:
    """A name without control characters, which could do anything to a terminal or a file."""
    return "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in name)


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
    text = {
        name: runs[name].map(lambda value: None if value is None else str(value)).astype(object)
        for name in runs.columns.difference([*INTEGERS, *FLOATS, *NESTED])
    }
    whole = {name: pd.to_numeric(runs[name], errors="coerce").astype("Int64") for name in INTEGERS}
    real = {name: pd.to_numeric(runs[name], errors="coerce").astype(np.float64) for name in FLOATS}
    return runs.assign(**text, **whole, **real)


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
