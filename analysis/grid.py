"""Tables as text in rows and columns, the same for every format that prints them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from analysis.cells import Cell, Row, Section, Table
from benchmarks import words

MISSING = "–"
MIXED = "†"  # a row that averages runs of several versions of the code


@dataclass(frozen=True)
class Entry:
    """A text, and the number behind it where there is one."""

    text: str
    cell: Cell = Cell()


@dataclass(frozen=True)
class Grid:
    """What a format prints.

    Attributes:
        title: above it.
        protocol: of all that it shows, its hash the last word.
        head: lines of the head, each with a text for each column.
        blocks: groups of rows, with their titles; an empty title prints none.
        notes: below it.
    """

    title: str
    head: tuple[tuple[str, ...], ...]
    blocks: tuple[tuple[str, tuple[tuple[Entry, ...], ...]], ...]
    notes: tuple[str, ...]
    protocol: str

    @property
    def heading(self) -> str:
        """Title and protocol."""
        return f"{self.title} ({self.protocol})"


def renamed(grid: Grid, names: Mapping[str, str]) -> Grid:
    """The grid with other names of rows and networks, in its head and at the beginning of rows."""
    if not names:
        return grid
    known = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)")

    def head(text: str) -> str:
        return known.sub(lambda found: names[found[0]], text)

    def row(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        first, *others = entries
        name, beside = re.split(r"(?=(?: \[\d+\])?(?: †)?$)", first.text, maxsplit=1)
        return Entry(names.get(name, name) + beside), *others

    blocks = tuple((title, tuple(map(row, rows))) for title, rows in grid.blocks)
    return replace(grid, head=tuple(tuple(map(head, line)) for line in grid.head), blocks=blocks)


def number(value: float, signed: bool = False, digits: int = 2) -> str:
    """A number as tables print it, with a true minus sign."""
    if math.isnan(value):
        return MISSING
    text = words.signed(value, digits)
    return text if signed else text.removeprefix("+")


def of_table(table: Table) -> Grid:
    """A comparison as text; published rows carry the number of their source, which is named below."""
    sources = sorted({row.source for section in table.sections for row in section.rows if row.source})
    blocks = (
        (section.title, tuple(_row(row, section, table, sources) for row in section.rows))
        for section in table.sections
    )
    citations = (f"[{place}] {source}" for place, source in enumerate(sources, 1))
    return Grid(table.title, _head(table), tuple(blocks), (*table.notes, *citations), table.protocol)


def _head(table: Table) -> tuple[tuple[str, ...], ...]:
    """Teachers above students, and above both what tells equal pairs apart."""
    blank = ("",) * len(table.aggregates)
    lines = [
        ("teacher", *(column.teacher for column in table.columns), *blank),
        ("student", *(column.student for column in table.columns), *table.aggregates),
    ]
    if any(column.variant for column in table.columns):
        lines.insert(0, ("", *(column.variant for column in table.columns), *blank))
    return tuple(lines)


def _row(row: Row, section: Section, table: Table, sources: list[str]) -> tuple[Entry, ...]:
    name = f"{row.name} [{sources.index(row.source) + 1}]" if row.source else row.name
    name += f" {MIXED}" if row.versions > 1 else ""
    cells = (Entry(_text(cell, section.signed, table.num_seeds), cell) for cell in row.cells)
    if not row.aggregates:
        aggregates = [Entry("")] * len(table.aggregates)
    else:
        aggregates = [
            Entry(number(value, signed=head.endswith("%"), digits=1), Cell(value))
            for head, value in zip(table.aggregates, row.aggregates, strict=True)
        ]
    return (Entry(name), *cells, *aggregates)


def _text(cell: Cell, signed: bool, num_seeds: int) -> str:
    parts = [number(cell.value, signed)]
    if not math.isnan(cell.std):
        parts.append(f"± {number(cell.std)}")
    if cell.n not in (0, num_seeds):
        parts.append(f"({cell.n})")
    return " ".join(parts)
