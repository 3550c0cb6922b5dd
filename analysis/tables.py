"""From logged runs to tables on screen or in files, with their provenance."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import formats
from analysis.cells import Table
from analysis.comparison import comparison_tables
from analysis.grid import Grid, of_table
from analysis.logs import Logs, load
from analysis.provenance import provenance
from analysis.runs import machine_of, method_code_of, network_code_of, printable, torch_of, versions_of
from analysis.scores import Scores
from analysis.selection import CELL, CODE, NETWORK, Selection, select
from analysis.settings import Format, Layout
from analysis.significance import Against, against, grids
from analysis.tidy import to_csv
from benchmarks.console import make_console
from benchmarks.errors import UserError
from benchmarks.files import write_json, write_text
from benchmarks.words import counted
from methods import InvalidSetting, unknown

MOST_NAMED = 3  # cells in a remark


@dataclass(frozen=True, repr=False)
class Tables:
    """Tables with what is behind them; a notebook shows them.

    Attributes:
        tables: one for each protocol and kind of pairs.
        comparisons: the tests against `layout.compare`, one for each protocol.
        logs, selection, layout: what they were made from.
        sources: what was read, for the provenance.
    """

    tables: tuple[Table, ...]
    comparisons: tuple[Against, ...]
    logs: Logs
    selection: Selection
    layout: Layout
    sources: tuple[str, ...] = ()

    @property
    def grids(self) -> list[Grid]:
        """Everything as text in rows and columns."""
        return [*map(of_table, self.tables), *(grid for result in self.comparisons for grid in grids(result))]

    @property
    def remarks(self) -> list[str]:
        """What was left out, and what is worth knowing of the runs."""
        left_out = _on_excluded(self.selection.excluded, self.logs.runs["label"])
        return [*self.logs.notes, *left_out, *self.differences]

    @property
    def differences(self) -> list[str]:
        """In what the runs differ that a table puts together all the same."""
        used = self.logs.runs.loc[self.selection.cells["run_id"].unique()]
        cells = self.selection.cells
        return [
            *_on_edited_methods(used),
            *_on_edited_networks(cells, used),
            *_on_several_codes(cells, used),
            *_on_several_torches(used),
            *_on_several_machines(cells, used),
        ]

    def provenance(self) -> dict[str, Any]:
        """Behind every cell its runs, and what was left out."""
        account = provenance(self.tables, self.logs.runs, self.selection, self.layout, self.sources)
        return account | {"notes": list(self.logs.notes)}

    def render(self, form: Format | str) -> str:
        """All as text of a format.

        Raises:
            InvalidSetting: there is no such format.
        """
        if form not in set(Format):
            raise InvalidSetting(unknown("format", str(form), [each for each in Format if each != Format.auto]))
        match Format(form):
            case Format.markdown:
                return formats.markdown(self.grids)
            case Format.latex:
                return formats.latex(self.grids)
            case Format.html:
                return formats.html_page(self.grids)
            case Format.csv:
                return to_csv(self.tables, self.comparisons)
        return formats.text(self.grids)

    def __repr__(self) -> str:
        return "\n".join([self.render(Format.terminal), *self._notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._notes())
        return "\n".join([*map(formats.html_table, self.grids), f"<ul>{notes}</ul>"])

    def _notes(self) -> list[str]:
        return [f"note: {remark}" for remark in self.remarks]

    def print(self, form: Format) -> None:
        """Print the tables; what is worth knowing goes with them or, beside a format for files, to stderr."""
        if form == Format.terminal:
            formats.terminal(self.grids, make_console())
        else:
            print(self.render(form), end="")
        out = sys.stdout if form == Format.terminal else sys.stderr
        for note in self._notes():
            print(note, file=out)

    def write(self, path: Path, form: Format) -> None:
        """Write the tables and, beside them, `<file>.provenance.json`."""
        content = self.render(form)
        write_json(path.with_name(f"{path.name}.provenance.json"), self.provenance())
        write_text(path, content)
        for note in self._notes():
            print(note, file=sys.stderr)
        print(f"{path}, {path.name}.provenance.json")


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
    for label, codes in versions.groupby(ordered["label"]):
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


def make(sources: Sequence[str], layout: Layout) -> Tables:
    """Read runs and compare them.

    Raises:
        UserError: a source, method, pair or protocol that is not there, or no run to show.
    """
    return compare(load(sources), layout, sources)


def compare(logs: Logs, layout: Layout | None = None, sources: Sequence[str] = ()) -> Tables:
    """Compare loaded runs.

    Raises:
        UserError: a setting that cannot work, a method, pair or protocol that is not there, or no run to show.
    """
    layout = layout or Layout()
    layout.check()
    selection = select(
        logs.runs,
        epoch=layout.epoch,
        measure=layout.measure,
        methods=layout.methods,
        pairs=layout.pairs,
        protocol=layout.protocol,
    )
    if selection.cells.empty:
        raise UserError(f"none of {counted(len(logs.runs), 'run')} can be shown{selection.why_excluded}")
    _check_rows(selection, layout)
    comparisons = _comparisons(selection, logs, layout)
    made = comparison_tables(selection, logs.runs, layout)
    return Tables(tuple(made), tuple(comparisons), logs, selection, layout, tuple(sources))


def _check_rows(selection: Selection, layout: Layout) -> None:
    """Refuse rows that were asked for and are not there; the usual baseline is left out where it was not run."""
    there = sorted(selection.cells["row"].unique())
    for name in ("baseline", "compare"):
        row = getattr(layout, name)
        if row not in there and row != getattr(Layout, name):
            raise UserError(f"{name}: " + unknown("row in these tables", row, there))


def _comparisons(selection: Selection, logs: Logs, layout: Layout) -> list[Against]:
    """Over all pairs of each protocol, whatever their architectures."""
    if layout.compare is None:
        return []
    generator = np.random.default_rng(layout.seed)
    results = []
    for protocol, cells in selection.cells.groupby("protocol"):
        scores = Scores(cells, logs.runs, layout.measure)
        if layout.compare in scores.rows:
            results.append(against(str(protocol), scores, layout.compare, generator, layout.alpha))
    return results
