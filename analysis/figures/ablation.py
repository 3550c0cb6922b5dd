"""Variants of a method against its default, what they change named beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from matplotlib.figure import Figure

from analysis.cells import shown
from analysis.configs import settings_of
from analysis.figures import differences
from analysis.figures.settings import PlotConfig
from analysis.figures.view import NothingToDraw, View
from benchmarks.errors import UserError
from methods import unknown

MOST_NAMED = 2  # settings that a tick names


def draw(view: View, options: PlotConfig) -> Figure:
    """Raises NothingToDraw where no method was run with its default and variants of it."""
    method = method_with_variants(view, options.method)
    default = _default(view, method)
    rows = [row for row in view.rows_of(method) if row != default]
    lines = differences.against(view, rows, default)
    if not lines:
        raise NothingToDraw(f"no variant of {method} has a seed in common with its default on the same pair")
    changes = {row: _changes(view, row, default) for row in rows}
    ticks = {row: _tick(row, changes[row]) for row in sorted(rows, key=lambda row: (changes[row], row))}
    return differences.draw(view, lines, ticks, default, options.alpha, height=0.36)


def method_with_variants(view: View, wanted: str | None) -> str:
    """The method whose variants are asked for, or the only one that has any beside its default."""
    counts = Counter(view.scores.rows.values())
    found = [method for method, count in counts.items() if count > len(view.scores.plain(method)) > 0]
    if wanted in found:
        return wanted
    if wanted is not None:
        if wanted in counts:
            rows = ", ".join(shown(row) for row in view.rows_of(wanted))
            raise NothingToDraw(
                f"method={wanted}: an ablation needs the method as usual, under its name alone, and a variant of "
                f"it (in older logs, which do not say what is usual, under a label); there is {rows}"
            )
        raise NothingToDraw("method: " + unknown("method with variants in these logs", wanted, found))
    if not found:
        raise NothingToDraw(
            "no method was run with its default and a variant of it, as by\n"
            "  benchmarks.run 'methods=[aftkd,{name: aftkd, label: features only, content: features}]' …"
        )
    if len(found) > 1:
        raise UserError(f"several methods have variants: choose method=, one of {', '.join(found)}")
    return found[0]


def _default(view: View, method: str) -> str:
    first, *others = view.scores.plain(method)
    if others:
        names = ", ".join([first, *others])
        raise NothingToDraw(
            f"{method} has several versions: choose one, with its variants, by methods=[…]: {names}"
        )
    return first


def _changes(view: View, row: str, default: str) -> str:
    """The settings in which a variant differs from the default, pair by pair where these are others."""
    changes = []
    for column in view.columns:
        if view.runs_of(row, column) and view.runs_of(default, column):
            ours, usual = (settings_of(view.config_of(each, column)) for each in (row, default))
            changes.append(named(ours, usual))
    return " or ".join(dict.fromkeys(changes))


def named(ours: Mapping[str, str], usual: Mapping[str, str]) -> str:
    """What differs, as `key=value`; of many only the first."""
    keys = [key for key in sorted({*ours, *usual}) if ours.get(key) != usual.get(key)]
    told = [f"{key}={ours.get(key, '–')}" for key in keys]
    more = [f"and {len(told) - MOST_NAMED} more"] if len(told) > MOST_NAMED else []
    return ", ".join([*told[:MOST_NAMED], *more])


def _tick(row: str, changes: str) -> str:
    return row if not changes or changes in row else f"{row}\n{changes}"
