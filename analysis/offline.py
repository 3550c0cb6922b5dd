"""Runs read straight from the `.wandb` files that W&B's SDK leaves in a directory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from analysis.records import Losses, NoLog, records
from analysis.runs import LoggedRun, column
from analysis.sources import wandb_files
from benchmarks import metrics

SEPARATOR = "\0"  # between the keys of a path
WORTH_A_POOL = 40  # files
CHUNK = 8  # files that a process takes at a time
AUTOMATIC = b"_timestamp"  # in the summaries that the SDK derives from each row of the history

Row = dict[str, str]  # path: value, as JSON


def read_files(source: str) -> tuple[list[LoggedRun], list[str]]:
    """Segments of all runs below a folder, in the order in which they began, and what was left out.

    Files are read in parallel where there are many.
    """
    results = _read_all(list(wandb_files(Path(source))))
    segments = [result for result in results if isinstance(result, LoggedRun)]
    for segment in segments:
        segment.source = source
    notes = [result for result in results if isinstance(result, str)]
    notes += [f"{segment.folder}: {segment.note}" for segment in segments if segment.note]
    return sorted(segments, key=lambda segment: (segment.created, segment.folder)), notes


def _read_all(paths: Sequence[Path]) -> list[LoggedRun | str]:
    if len(paths) < WORTH_A_POOL or _processors() < 2:
        return list(map(_read, paths))
    # A fork shares what is imported, and needs no guard in the script that calls this.
    context = get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(_processors(), mp_context=context) as pool:
        return list(pool.map(_read, paths, chunksize=CHUNK))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(path: Path) -> LoggedRun | str:
    """A segment, or why there is none."""
    try:
        return read(path)
    except NoLog as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"


def read(path: Path) -> LoggedRun:
    """One `.wandb` file.

    Raises:
        NoLog: it is none.
        OSError: it cannot be read.
    """
    losses, log = Losses(), _Log(path)
    for raw in records(path, losses):
        try:
            log.take(raw)
        except DecodeError:
            losses.damaged += 1
    run = log.finish()
    run.note = ", ".join(part for part in (str(losses), run.note) if part)
    return run


class _Log:
    """A file's records as they come, put together."""

    def __init__(self, path: Path) -> None:
        self.run = LoggedRun(path.stem.removeprefix("run-"), folder=str(path.parent))
        self.config: Row = {}
        self.summary: Row = {}
        self.rows: dict[str, Row] = {}  # by epoch
        self.without_epoch = 0
        self.own_summaries = False  # define_metric(summary=…): a summary is not the last value
        self.waiting: bytes | None = None  # a summary that the row behind it may say again

    def take(self, raw: bytes) -> None:
        """Take the next record."""
        kind = _kind(raw)
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            if kind != "history" or self.own_summaries:
                _update(self.summary, Record.FromString(waiting).summary)
        if kind == "summary" and AUTOMATIC in raw:
            self.waiting = raw
            return
        record = Record.FromString(raw)
        match record.WhichOneof("record_type"):
            case "history":
                self._take_row(record)
            case "summary":
                _update(self.summary, record.summary)
            case "config":
                _update(self.config, record.config)
            case "run":
                self._take_run(record.run)
            case "metric":
                self.own_summaries |= record.metric.HasField("summary")

    def _take_run(self, run: Any) -> None:
        self.run.id, self.run.name, self.run.group = run.run_id, run.display_name, run.run_group
        self.run.created = run.start_time.ToNanoseconds() / 1e9
        _update(self.config, run.config)

    def _take_row(self, record: Any) -> None:
        row = _own(record.history.item)
        if not self.own_summaries:
            self.summary |= {path: value for path, value in row.items() if value != "null"}
        epoch = row.get(metrics.EPOCH, "null")
        if epoch.isdecimal():
            self.rows[epoch] = self.rows.get(epoch, {}) | row
        else:
            self.without_epoch += 1

    def finish(self) -> LoggedRun:
        """The segment, once all records are taken."""
        if self.waiting is not None:
            _update(self.summary, Record.FromString(self.waiting).summary)
        run = self.run
        run.config, run.summary = _nested(self.config), _nested(self.summary)
        run.history = _history(list(self.rows.values()))
        if self.without_epoch:
            run.note = f"rows without an epoch left out: {self.without_epoch}"
        return run


def _kind(raw: bytes) -> str:
    """`history` or `summary` where the record is one, told from the field behind its number; else nothing."""
    position = 0
    if raw[:1] == b"\x08":  # the number, a varint
        position = 2
        while raw[position - 1] & 0x80:
            position += 1
    return {b"\x12": "history", b"\x1a": "summary"}.get(raw[position : position + 1], "")


def _own(items: Iterable[Any]) -> Row:
    """The user's entries among a record's items: W&B's begin with an underscore."""
    return {
        path: item.value_json or _typed(item)
        for item in items
        if (path := SEPARATOR.join(item.nested_key) or item.key)[:1] != "_"
    }


def _typed(item: Any) -> str:
    """The JSON of a value that is not given as JSON, which the format of a row also has."""
    for field, value in item.ListFields():
        if field.name in ("boolean", "integer", "number", "text"):
            return json.dumps(value)
        if field.name == "json":
            return str(value)
    return "null"


def _update(content: Row, change: Any) -> None:
    """Apply a record of changes to the configuration or the summary."""
    changed, removed = _own(change.update), _own(change.remove)
    below = tuple(path + SEPARATOR for path in (*changed, *removed))
    if below:
        for path in [path for path in content if path in removed or path.startswith(below)]:
            del content[path]
        content |= changed


def _nested(content: Row) -> dict[str, Any]:
    """Paths and JSON as nested mappings."""
    nested: dict[str, Any] = {}
    for path, value in content.items():
        *parents, last = path.split(SEPARATOR)
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(value)
    return nested


def _history(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of JSON as columns."""
    paths = list(dict.fromkeys(path for row in rows for path in row))
    # One document for all: a call for each value would take longer than everything else.
    lines = (f"[{','.join([row.get(path, 'null') for path in paths])}]" for row in rows)
    values: Iterable[Sequence[Any]] = json.loads(f"[{','.join(lines)}]")
    return {
        path.replace(SEPARATOR, "."): column(entries)
        for path, entries in zip(paths, zip(*values, strict=True), strict=True)
    }
