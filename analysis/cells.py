"""What a comparison table is made of; every number knows the runs behind it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from analysis.configs import printable
from methods import ALONE

BEST, SECOND = "best", "second"


def shown(row: str) -> str:
    """A row's name to readers."""
    return "student alone" if row == ALONE else row


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    Attributes:
        value: in percent, points or nats, as the table's measure is; NaN where there is none.
        std: over seeds, of a sample; NaN for fewer than two.
        n: seeds; 0 for what no seeds are behind.
        mark: `BEST`, `SECOND` or nothing.
        runs: ids of the runs behind it.
    """

    value: float = math.nan
    std: float = math.nan
    n: int = 0
    mark: str = ""
    runs: tuple[str, ...] = ()

    @property
    def there(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Row:
    """A row: a cell for each column, and what is computed over all columns.

    Attributes:
        name: the method's label, or what the row is about.
        cells: one for each column of the table.
        aggregates: one for each of the table's aggregates; NaN where undefined.
        source: for published figures, where they are from.
        versions: of the code among the runs of a cell, at most.
    """

    name: str
    cells: tuple[Cell, ...]
    aggregates: tuple[float, ...] = ()
    source: str = ""
    versions: int = 1


@dataclass(frozen=True)
class Section:
    """Rows of one kind: `reference`, `methods`, `gain`, `published` or `difference`."""

    kind: str
    title: str
    rows: tuple[Row, ...]

    @property
    def signed(self) -> bool:
        """Whether its numbers are differences."""
        return self.kind in ("gain", "difference")


@dataclass(frozen=True)
class Column:
    """A pair; `variant` tells it from the same pair under another teacher or learning rate."""

    name: str
    pair: str
    teacher: str
    student: str
    data: str

    @property
    def variant(self) -> str:
        return self.name.removeprefix(printable(self.pair)).strip()


@dataclass(frozen=True)
class Table:
    """One protocol's comparison on one group of pairs.

    Attributes:
        title: what it shows.
        protocol: of all its runs.
        columns, sections: what stands where.
        aggregates: heads of what is computed over all columns.
        notes: how it is to be read.
    """

    title: str
    protocol: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    aggregates: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_seeds(self) -> int:
        """What most cells have."""
        counts = Counter(
            cell.n for section in self.sections for row in section.rows for cell in row.cells if cell.n
        )
        return counts.most_common(1)[0][0] if counts else 0

    def section(self, kind: str) -> Section | None:
        """The section of a kind, if there is one."""
        return next((section for section in self.sections if section.kind == kind), None)
