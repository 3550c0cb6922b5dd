"""The report's content and its page. Names may hold anything: the template escapes whatever it is given."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.configs import settings_of
from analysis.figures.settings import MEANING, FigureKind, PlotConfig
from analysis.figures.view import View
from analysis.grid import Grid, number, of_table, renamed
from analysis.plot import draw
from analysis.provenance import configuration_hash, plain, rule
from analysis.selection import select
from analysis.settings import Measure
from analysis.significance import grids
from analysis.tables import Tables
from benchmarks import style
from benchmarks.errors import UserError
from benchmarks.overrides import as_overrides
from benchmarks.words import command_line
from methods import acts

# Kinds whose panels are so many that each pair gets a figure of its own.
BY_PAIR = (FigureKind.weights, FigureKind.correlation, FigureKind.tsne, FigureKind.attention)


@dataclass(frozen=True)
class Picture:
    """A figure with its heading and the command that draws it again."""

    heading: str
    svg: Markup
    command: str


@dataclass(frozen=True)
class Chapter:
    """One protocol's share of the page; `missing` tells of each kind without a figure why."""

    protocol: str
    tables: list[Grid]
    pictures: list[Picture]
    missing: list[tuple[str, str]]
    settings: pd.DataFrame


def page(tables: Tables, title: str, kinds: Sequence[FigureKind]) -> str:
    """A report as an HTML document that holds everything it needs.

    Args:
        tables: the comparison.
        title: of the page.
        kinds: of figures to draw.
    """
    runs, selection, layout = tables.logs.runs, tables.selection, tables.layout
    values = dict(zip(selection.cells["run_id"], selection.cells["value"], strict=True))
    # Figures are of top-1, as `analysis.plot` draws them, whatever the tables compare; some are of variants always.
    figures = {
        variants: select(
            runs, epoch=layout.epoch, methods=layout.methods, variants=variants, pairs=layout.pairs
        ).cells
        for variants in {layout.variants, True}
    }
    used = [(str(run_id), run) for run_id, run in runs[runs.index.isin(selection.cells["run_id"])].iterrows()]
    environment = Environment(
        loader=PackageLoader("analysis", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # which JavaScript would not read
    return environment.get_template("report.html.j2").render(
        title=title,
        sources=tables.sources,
        rule=rule(layout),
        chapters=[
            _chapter(protocol, figures, tables, kinds) for protocol in sorted(selection.cells["protocol"].unique())
        ],
        comparisons=[grid for result in tables.comparisons for grid in grids(result, layout.names)],
        runs=[_listed(*each) for each in used],
        excluded=[
            (run_id, reason, runs.loc[run_id, "folder"])
            for run_id, reason in selection.excluded.itertuples(index=False)
        ],
        remarks=[*tables.logs.notes, *tables.differences],
        provenance={run_id: _behind(run_id, run, layout.measure, values[run_id]) for run_id, run in used},
        number=number,
    )


def _chapter(
    protocol: str, figures: Mapping[bool, pd.DataFrame], tables: Tables, kinds: Sequence[FigureKind]
) -> Chapter:
    """Of a protocol; `figures`: the cells to draw, with variants and, if they are left out, without."""
    logs, layout = tables.logs, tables.layout
    views = {
        variants: View(cells[cells["protocol"] == protocol], logs.runs, logs.history, layout.epoch)
        for variants, cells in figures.items()
    }
    pictures, missing = [], []
    print(protocol, file=sys.stderr)
    for place, kind in enumerate(kinds, 1):
        print(f"figure {place}/{len(kinds)}  {kind}", file=sys.stderr)
        try:
            view = views[layout.variants or not acts(PlotConfig(kind=kind), "variants")]
            pictures += list(_pictures(kind, view, tables))
        except UserError as error:
            missing.append((str(kind), str(error)))
    found = [renamed(of_table(table), layout.names) for table in tables.tables if table.protocol == protocol]
    return Chapter(protocol, found, pictures, missing, settings_by_row(views[layout.variants]))


# Figures


def _pictures(kind: FigureKind, view: View, tables: Tables) -> Iterator[Picture]:
    """The figures of a kind; of those with many panels one for each pair that has something to show."""
    pairs = list(dict.fromkeys(column.pair for column in view.columns))
    if kind not in BY_PAIR or len(pairs) == 1:
        yield _picture(kind, view, "", tables)
        return
    reasons = []
    for pair in pairs:  # under all its teachers, as the command draws it that is told
        part = replace(view, cells=view.cells[view.cells["pair"] == pair])
        try:
            print(f"  {pair}", file=sys.stderr)
            yield _picture(kind, part, pair, tables)
        except UserError as error:
            reasons.append(error)
    if len(reasons) == len(pairs):
        raise reasons[0]


def _picture(kind: FigureKind, view: View, pair: str, tables: Tables) -> Picture:
    layout, options = tables.layout, PlotConfig(kind=kind)
    acting = {name: getattr(layout, name) for name in ("epoch", "alpha", "variants") if acts(options, name)}
    options = replace(options, **acting)
    told = {
        "kind": str(kind),
        "source": list(tables.sources),
        "protocol": view.protocol.split()[-1],
        "pairs": [pair] if pair else list(layout.pairs),
        "methods": list(layout.methods),
        **{name: value for name, value in acting.items() if value != getattr(PlotConfig, name)},
    }
    words = as_overrides({name: value for name, value in told.items() if value != []})
    heading = f"{kind}: {MEANING[kind]}" + (f" ({pair})" if pair else "")
    svg = style.svg(draw(view, options))
    return Picture(heading, Markup(inline(svg, heading)), command_line(["python", "-m", "analysis.plot", *words]))


def inline(svg: str, label: str) -> str:
    """An SVG document as a part of a page: without its head and without ids that only name groups."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    return body.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1)


def settings_by_row(view: View) -> pd.DataFrame:
    """What each row's method was told: a line for each row and setting, with the pairs that have each value."""
    lines = []
    for row in view.rows:
        values: dict[tuple[str, str], list[str]] = {}
        for column in view.columns:
            if view.runs_of(row, column):
                for key, value in settings_of(view.config_of(row, column)).items():
                    values.setdefault((key, value), []).append(column.name)
        lines += [(row, key, value, ", ".join(columns)) for (key, value), columns in values.items()]
    return pd.DataFrame(lines, columns=["row", "setting", "value", "pairs"])


# Runs


def _listed(run_id: str, run: Any) -> dict[str, Any]:
    """A line of the list of runs."""
    names = ("pair", "label", "seed", "attempt", "protocol", "top1_last", "top1_best", "teacher_top1", "device")
    return {"run": run_id} | {name: plain(run[name]) for name in names}


def _behind(run_id: str, run: Any, measure: Measure, value: float) -> dict[str, Any]:
    """What is told of a run where a number that rests on it is clicked."""
    config = run["config"]
    facts = {
        "seed": run["seed"],
        "top-1, last epoch": round(run["top1_last"], 4),
        "top-1, best epoch": round(run["top1_best"], 4),
        **({} if measure == Measure.top1 else {measure.words: round(value, 4)}),
        "commit": run["commit"],
        "sources": run["sources"],
        "teacher": run["teacher_sha256"],
        "files": run["folder"],
        "command": config.get("command"),
    }
    return {
        "run": run_id,
        "method": f"{run['label']} on {run['pair']}",
        "configuration": configuration_hash(config),
        **{name: plain(fact) for name, fact in facts.items()},
        "all": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False),
    }
