"""What is behind each number of a table: runs, seeds, code, configuration, and what was left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.cells import Cell, Section, Table
from analysis.configs import DATA_PLACES, get, section_of, without
from analysis.selection import Selection
from analysis.settings import Layout, Measure
from benchmarks.hashing import short_hash


def provenance(
    tables: Sequence[Table], runs: pd.DataFrame, selection: Selection, layout: Layout, sources: Sequence[str]
) -> dict[str, Any]:
    """A JSON-able account of tables.

    Args:
        tables: made from the selection.
        runs: the table of runs.
        selection: which of them count.
        layout: what the tables show.
        sources: what was read.
    """
    used = runs.loc[selection.cells["run_id"].unique()]
    values = dict(zip(selection.cells["run_id"], selection.cells["value"], strict=True))
    entries = {
        run_id: _run(str(run_id), run, {str(layout.measure): plain(values[run_id])})
        for run_id, run in zip(used.index, used.to_dict("records"), strict=True)
    }
    return {
        "sources": list(sources),
        "settings": {field.name: getattr(layout, field.name) for field in dataclasses.fields(Layout)},
        "rule": rule(layout),
        "tables": [_table(table, entries) for table in tables],
        "excluded": [
            {"run": run_id, "reason": reason, "folder": runs.loc[run_id, "folder"]}
            for run_id, reason in selection.excluded.itertuples(index=False)
        ],
    }


def rule(layout: Layout) -> str:
    """Which runs count, in words."""
    what = "top-1" if layout.measure == Measure.top1 else layout.measure.words
    value = f"{what} after the last epoch" if layout.epoch == "last" else f"the best epoch's {what} (flattering)"
    return f"complete runs; {value}; of equal runs the latest attempt; one run a seed"


def _table(table: Table, entries: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "title": table.title,
        "protocol": table.protocol,
        "cells": [
            {"section": section.kind, "row": row.name, "column": column.name, **_cell(cell, section, entries)}
            | ({"source": row.source} if row.source else {})
            for section in table.sections
            for row in section.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
        ],
    }


def _cell(cell: Cell, section: Section, entries: Mapping[Any, Any]) -> dict[str, Any]:
    behind = [entries[run_id] for run_id in cell.runs]
    numbers = {"value": plain(cell.value), "std": plain(cell.std), "n": cell.n, "mark": cell.mark}
    return numbers if section.kind == "published" else numbers | {"runs": behind}


def _run(run_id: str, run: Mapping[Any, Any], value: dict[str, Any]) -> dict[str, Any]:
    entry = {
        "run": run_id,
        "seed": plain(run["seed"]),
        **value,
        "commit": run["commit"],
        "sources": run["sources"],
        "configuration": configuration_hash(run["config"]),
        "folder": run["folder"],
    }
    if before := get(run["config"], "code", "before"):
        entry["code_before"] = before  # other versions that trained the run's first epochs
    if teacher := get(run["config"], "teacher", "sha256"):
        entry["teacher"] = teacher
    return entry


def configuration_hash(config: Mapping[str, Any]) -> str:
    """A short hash of everything that was configured and can change the result, the seed included."""
    content: dict[str, Any] = {section: section_of(config, section) for section in ("method", "pair", "loss")}
    content |= {
        "train": without(section_of(config, "train"), {"graph"}),
        "data": without(section_of(config, "data"), DATA_PLACES),
        "seed": config.get("seed"),
        "teacher": get(config, "teacher", "sha256"),
    }
    return short_hash(content)


def plain(value: Any) -> Any:
    """A value as JSON has it; None for what is missing."""
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value
