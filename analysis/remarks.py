"""What is worth knowing of the runs behind a table or a figure: what was left out, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.configs import machine_of, method_code_of, network_code_of, printable, torch_of, versions_of
from analysis.logs import Logs
from analysis.selection import CELL, CODE, NETWORK, Selection
from benchmarks.words import counted

MOST_NAMED = 3  # cells in a remark, or remarks in a message


def remarks(logs: Logs, selection: Selection) -> list[str]:
    """What was lost in reading, what was left out, and `differences`."""
    left_out = _on_excluded(selection.excluded, logs.runs["label"])
    return [*logs.notes, *left_out, *differences(logs, selection)]


def why_nothing(logs: Logs, selection: Selection) -> str:
    """Why no run counts, to end a message with: the first of what was lost in reading, and what was left out."""
    more = len(logs.notes) - MOST_NAMED
    lines = [*logs.notes[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
    counts = selection.excluded["reason"].value_counts()
    lines += [f"{counted(count, 'run')}: {reason}" for reason, count in counts.items()]
    return "".join(f"\n  {line}" for line in lines)


def differences(logs: Logs, selection: Selection) -> list[str]:
    """In what the runs differ that are put together all the same."""
    cells = selection.cells
    used = logs.runs.loc[cells["run_id"].unique()]
    return [
        *_on_edited_methods(used),
        *_on_edited_networks(cells, used),
        *_on_several_codes(cells, used),
        *_on_several_torches(used),
        *_on_several_machines(cells, used),
    ]


def _on_excluded(excluded: pd.DataFrame, labels: pd.Series) -> Iterator[str]:
    """Which runs were left out, by reason and label; the first of many are named."""
    labels = excluded["run_id"].map(labels).fillna("")
    for (reason, label), runs in excluded.groupby(["reason", labels], sort=False):
        whose = f" ({printable(str(label))})" if label else ""
        yield f"{_first(list(runs['run_id']))} left out: {reason}{whose}"


def _on_several_torches(runs: pd.DataFrame) -> Iterator[str]:
    """Which versions of torch computed the runs, if several did, as the runs began; older logs may not say."""
    versions = runs.sort_values("created", kind="stable")["config"].map(torch_of).dropna().unique()
    if len(versions) > 1:
        yield f"the runs are of several versions of torch: {', '.join(versions)}"


def _on_edited_methods(runs: pd.DataFrame) -> Iterator[str]:
    """Which methods were edited between their runs, if any were, oldest first; older logs may not say."""
    ordered = runs.sort_values("created", kind="stable")
    versions = ordered["config"].map(method_code_of).dropna()
    for (label, _), codes in versions.groupby([ordered["label"], ordered["method"]]):
        if codes.nunique() > 1:
            every = ", ".join(codes.unique())
            yield (
                f"{label}: the method's own file was changed between runs, so that each version has a row (oldest "
                f"first: {CODE}={every}; methods=[…] takes rows by name); rerun=true trains a run again with the "
                "present one"
            )


def _on_edited_networks(cells: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """In which columns network or data set were edited between runs, oldest first; older logs may not say."""
    ordered = runs.sort_values("created", kind="stable")
    versions = ordered["config"].map(network_code_of).dropna()
    for column, ids in cells.groupby("column")["run_id"]:
        codes = versions[versions.index.isin(ids)]
        if codes.nunique() > 1:
            labels = ordered["label"][codes.index].map(printable).groupby(codes, sort=False).unique()
            every = "; ".join(f"{NETWORK}={code} of {_first(names)}" for code, names in labels.items())
            yield (
                f"{column}: a file of the student network or of the data set was changed between runs (oldest "
                f"first: {every}); a method with runs of several versions has a row for each; rerun=true trains a "
                "run again with the present ones"
            )


def _on_several_codes(cells: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """Which cells, or else rows, are of several versions of the code, if any are."""
    versions = cells["run_id"].map(runs["config"].map(versions_of))
    by_cell = versions.groupby([cells[name] for name in CELL]).agg(_united)
    mixed = by_cell[by_cell.map(len) > 1]
    if len(mixed):
        yield f"averaged over several versions of the code: {_named(mixed.index)}"
    elif by_cell.nunique() > 1:
        rows: dict[Any, list[str]] = {}
        for row, version in zip(by_cell.index.get_level_values("row"), by_cell, strict=True):
            rows.setdefault(version, []).append(row)
        beside = " | ".join(", ".join(dict.fromkeys(names)) for names in rows.values())
        yield f"compared over several versions of the code: {beside}"


def _united(found: pd.Series) -> Any:
    return frozenset[Any]().union(*found)


def _on_several_machines(cells: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """Which cells hold runs that computed on several devices or with several numbers of threads, if any do."""
    machines = cells["run_id"].map(runs["config"].map(machine_of))
    by_cell = machines.groupby([cells[name] for name in CELL]).unique()
    mixed = by_cell[by_cell.map(len) > 1]
    if len(mixed):
        every = "; ".join(sorted(set[str]().union(*mixed)))
        yield f"averaged over several machines or settings of one: {_named(mixed.index)}: {every}"


def _named(places: pd.Index) -> str:
    """Cells in words, the first of many."""
    return _first([f"{row} on {column}" for _, column, row in places])


def _first(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
