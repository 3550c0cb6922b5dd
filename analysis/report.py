"""`python -m analysis.report`: one page with tables, figures and what is behind every number of logged runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from analysis.figures.settings import MEANING, FigureKind
from analysis.settings import SOURCE, Layout, sources_of
from benchmarks.cli import Command, main
from benchmarks.errors import require
from benchmarks.files import check_file
from methods import option


@dataclass(frozen=True)
class ReportConfig(Layout):
    """The command `analysis.report`."""

    source: Any = option("runs", SOURCE)
    out: str = option("report.html", "FILE.html: it needs no other file and asks nothing of any network")
    title: str = option("Distillation results", "of the page")
    figures: list[FigureKind] = option(
        list(FigureKind),
        "kinds of figures, of top-1 whatever measure= is: " + "; ".join(f"{k}: {MEANING[k]}" for k in FigureKind),
    )


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, ReportConfig)
    settings.check()
    out = Path(settings.out)
    require(out.suffix.lower() in (".html", ".htm"), f"out={out}: end the file in .html")
    sources = sources_of(settings.source)
    check_file("out", out)
    from analysis.logs import load  # takes the time that pandas and matplotlib take
    from analysis.page import page
    from analysis.tables import compare
    from benchmarks.files import write_text

    print("reading and comparing runs", file=sys.stderr)
    tables = compare(load(sources), settings, sources)
    content = page(tables, settings.title, settings.figures)
    write_text(out, content)
    print(out)
    return 0


COMMAND = Command(
    name="analysis.report",
    summary="one self-contained page from logged runs: sortable tables, figures, and behind every number its runs",
    examples=(
        "python -m analysis.report source=runs out=report.html",
        "python -m analysis.report source=runs published=shown compare=kd 'figures=[curves,gain,ranks]'",
    ),
    config=ReportConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
