"""Tables as CSV: a line for each cell, with all digits."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from analysis.cells import Table, shown
from analysis.significance import Against

HEAD = (
    *("protocol", "section", "row", "pair", "teacher", "student", "value", "std", "n", "mark"),
    *("runs", "source", "low", "high", "p"),
)


def to_csv(tables: Sequence[Table], comparisons: Sequence[Against]) -> str:
    """Every cell, its runs separated by blanks; then the differences on pairs, with Student's intervals."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEAD, restval="", lineterminator="\n")
    writer.writeheader()
    for line in (*_cells(tables), *_differences(comparisons)):
        writer.writerow({key: "" if value != value else value for key, value in line.items()})  # NaN
    return out.getvalue()


def _cells(tables: Sequence[Table]) -> Iterator[dict[str, str | float]]:
    for table in tables:
        for section in table.sections:
            for row in section.rows:
                for column, cell in zip(table.columns, row.cells, strict=True):
                    yield {
                        "protocol": table.protocol,
                        "section": section.kind,
                        "row": row.name,
                        "pair": column.name,
                        "teacher": column.teacher,
                        "student": column.student,
                        "value": cell.value,
                        "std": cell.std,
                        "n": cell.n or math.nan,
                        "mark": cell.mark,
                        "runs": " ".join(cell.runs),
                        "source": row.source,
                    }


def _differences(comparisons: Sequence[Against]) -> Iterator[dict[str, str | float]]:
    for result in comparisons:
        for each in result.on_pairs:
            column, difference = each.column, each.difference
            low, high = difference.interval_t
            yield {
                "protocol": result.protocol,
                "section": f"difference to {shown(result.reference)}",
                "row": shown(each.row),
                "pair": column.name,
                "teacher": column.teacher,
                "student": column.student,
                "value": difference.mean,
                "std": difference.std,
                "n": difference.n,
                "low": low,
                "high": high,
                "p": difference.p,
            }
