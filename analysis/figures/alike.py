"""Rows of a method that are alike but for one setting."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.cells import Column
from analysis.configs import method_code_of, settings_of
from analysis.figures.view import NothingToDraw, View


def alike(view: View, method: str, column: Column, setting: str) -> dict[str, str]:
    """Rows of a pair by their value of a setting, of all groups of otherwise equal rows the largest.

    Of rows with the same settings under several names the first.

    Args:
        view: the runs.
        method: whose rows.
        column: the pair.
        setting: as `settings_of` names it; its values are texts, as there.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for row in view.rows_of(method):
        if view.runs_of(row, column):
            told = settings_of(view.config_of(row, column))
            value = told.pop(setting, None)
            if value is not None:
                groups.setdefault(tuple(sorted(told.items())), {}).setdefault(value, row)
    return max(groups.values(), key=len, default={})


def check_versions(view: View, method: str, drawn: Iterable[tuple[str, Column]]) -> None:
    """Refuse to compare runs of several versions of the method's own file; older logs may not say.

    Args:
        view: the runs.
        method: whose rows.
        drawn: row and column of the cells that are compared.

    Raises:
        NothingToDraw: there are several.
    """
    rows: dict[str, set[str]] = {}
    for row, column in drawn:
        for code in filter(None, map(method_code_of, view.scores.configs(row, column))):
            rows.setdefault(code, set()).add(row)
    if len(rows) > 1:
        every = "; ".join(f"{code}: {', '.join(sorted(names))}" for code, names in sorted(rows.items()))
        raise NothingToDraw(f"{method} has several versions: choose rows of one by methods=[…]: {every}")
