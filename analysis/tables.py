"""From logged runs to tables on screen or in files, with their provenance."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis import formats
from analysis.cells import Table
from analysis.comparison import comparison_tables
from analysis.grid import Grid, of_table, renamed
from analysis.logs import Logs
from analysis.provenance import provenance
from analysis.remarks import differences, remarks, why_nothing
from analysis.scores import Scores
from analysis.selection import Selection, select
from analysis.settings import Format, Layout
from analysis.significance import Against, against, grids
from analysis.tidy import to_csv
from benchmarks.console import make_console
from benchmarks.errors import UserError
from benchmarks.files import write_json, write_text
from benchmarks.words import counted
from methods import InvalidSetting, unknown


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
        names = self.layout.names
        found = [renamed(of_table(table), names) for table in self.tables]
        return [*found, *(grid for result in self.comparisons for grid in grids(result, names))]

    @property
    def remarks(self) -> list[str]:
        """What was left out, and what is worth knowing of the runs."""
        return remarks(self.logs, self.selection)

    @property
    def differences(self) -> list[str]:
        """In what the runs differ that a table puts together all the same."""
        return differences(self.logs, self.selection)

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
        console = make_console()
        if form == Format.terminal and console.is_terminal:
            formats.terminal(self.grids, console)
        else:  # what goes into a file or a pipe has no blanks at the ends of its lines
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
        variants=layout.variants,
        pairs=layout.pairs,
        protocol=layout.protocol,
    )
    if selection.cells.empty:
        raise UserError(f"none of {counted(len(logs.runs), 'run')} can be shown{why_nothing(logs, selection)}")
    _check_rows(selection, layout)
    comparisons = _comparisons(selection, logs, layout)
    made = comparison_tables(selection, logs.runs, layout)
    _check_names(made, layout)
    return Tables(tuple(made), tuple(comparisons), logs, selection, layout, tuple(sources))


def _check_rows(selection: Selection, layout: Layout) -> None:
    """Refuse rows that were asked for and are not there; the usual baseline is left out where it was not run."""
    there = sorted(selection.cells["row"].unique())
    for name in ("baseline", "compare"):
        row = getattr(layout, name)
        if row not in there and row != getattr(Layout, name):
            raise UserError(f"{name}: " + unknown("row in these tables", row, there))


def _check_names(tables: Sequence[Table], layout: Layout) -> None:
    """Refuse another name for what no table shows."""
    rows = {row.name for table in tables for section in table.sections for row in section.rows}
    networks = {network for table in tables for each in table.columns for network in (each.teacher, each.student)}
    for name in layout.names:
        if name not in rows | networks:
            raise UserError("names: " + unknown("row or network in these tables", name, sorted(rows | networks)))


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
