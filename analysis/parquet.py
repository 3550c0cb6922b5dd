"""Runs and histories in one tidy Parquet file: a row for each run and epoch, with all columns of the run beside it.

Any reader of Parquet can group and plot such a table as it is; here it becomes the two tables again. A run without
history has one row without epoch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.configs import protocol
from analysis.runs import NESTED, objects, typed
from benchmarks import metrics
from benchmarks.errors import UserError, first_line
from benchmarks.files import write_atomically

if TYPE_CHECKING:
    from analysis.logs import Logs

FORMAT = {"compression": "zstd", "write_page_checksum": True}
MARK = b"kd-benchmarks"  # the file's metadata: which columns are the run's, which hold JSON, and the notes


def save(logs: Logs, path: Path | str) -> None:
    """Write both tables to a file.

    Raises:
        UserError: the file cannot be written, or a metric is called like a column of the runs.
        RunFailed: writing failed half-way.
    """
    table = to_table(logs)
    write_atomically(Path(path), lambda temporary: pq.write_table(table, temporary, **FORMAT))


def to_table(logs: Logs) -> pa.Table:
    """Both tables as one.

    Raises:
        UserError: a metric is called like a column of the runs.
    """
    runs, history = logs.runs.reset_index(), logs.history.drop(columns="run_id")
    if twice := sorted({str(name) for name in runs} & set(history)):
        raise UserError(f"metrics called like columns of the runs cannot be exported: {', '.join(twice)}")
    where = pd.Series(np.arange(len(runs)), index=logs.runs.index)[logs.history["run_id"]].to_numpy()
    without = np.setdiff1d(np.arange(len(runs)), where)
    place = np.concatenate([where, without]).astype(np.int32)
    order = np.argsort(place, kind="stable")  # rows of a run stand together
    columns = {name: _of_run(runs[name], place[order]) for name in runs}
    encoded = [name for name in history if history[name].dtype == object and not _is_text(history[name])]
    for name in history:
        column = _json(history[name]) if name in encoded else _plain(history[name])
        columns[name] = pa.concat_arrays([column, pa.nulls(len(without), column.type)]).take(pa.array(order))
    mark = {"runs": list(runs), "json": encoded, "notes": logs.notes}
    return pa.table(columns).replace_schema_metadata({MARK: json.dumps(mark).encode()})


def _of_run(column: pd.Series, place: np.ndarray) -> pa.Array:
    """A column of the runs, repeated for each epoch; a long text is kept once."""
    values = _json(column) if column.name in NESTED else _plain(column)
    return (values.dictionary_encode() if column.dtype == object else values).take(pa.array(place))


def _is_text(column: pd.Series) -> bool:
    return all(value is None or isinstance(value, str) for value in column)


def _plain(column: pd.Series) -> pa.Array:
    """Text or numbers; NaN stays apart from what is missing."""
    if column.dtype == object:
        return pa.array(column, pa.string())
    return pa.array(column, from_pandas=column.dtype == "Int64")


def _json(column: pd.Series) -> pa.Array:
    return pa.array([None if value is None else json.dumps(value) for value in column], pa.string())


def read(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Both tables of a file, runs and histories, and its notes.

    Raises:
        UserError: there is no such file, or another program wrote it.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        mark = json.loads((table.schema.metadata or {})[MARK])
    except KeyError:
        raise UserError(f"source={path} was not written by `python -m analysis.export`") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"source={path} cannot be read as Parquet: {first_line(error)}") from None
    try:
        run_id = pd.Series(table["run_id"].to_pylist(), dtype=object)
        return _runs(table, mark, run_id), _history(table, mark, run_id), tuple(mark["notes"])
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:  # what no checksum covers: its footer
        raise UserError(f"source={path} is damaged: {first_line(error)}") from None


def _runs(table: pa.Table, mark: dict[str, Any], run_id: pd.Series) -> pd.DataFrame:
    first = run_id.drop_duplicates().index
    runs = table.select(mark["runs"]).take(first.to_numpy()).to_pandas(integer_object_nulls=True)
    runs = runs.astype(object).where(runs.notna(), None)
    for name in NESTED:
        runs[name] = [json.loads(text) for text in runs[name]]
    # As runs read elsewhere have it, whatever version wrote the file.
    runs["protocol"] = runs["config"].map(protocol)
    return typed(runs.set_index("run_id"))


def _history(table: pa.Table, mark: dict[str, Any], run_id: pd.Series) -> pd.DataFrame:
    rows = table[metrics.EPOCH].is_valid().to_numpy()
    columns: dict[str, Any] = {"run_id": run_id[rows].reset_index(drop=True)}
    for name in table.column_names:
        if name not in mark["runs"]:
            values = table[name].filter(pa.array(rows))
            columns[name] = objects(values.to_pylist()) if pa.types.is_string(values.type) else values.to_numpy()
            if name in mark["json"]:
                columns[name] = objects([None if text is None else json.loads(text) for text in columns[name]])
    return pd.DataFrame(columns).sort_values(["run_id", metrics.EPOCH], ignore_index=True)
