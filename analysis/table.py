"""`python -m analysis.table`: runs as a paper's comparison table."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from analysis.settings import TableConfig, format_of, sources_of
from benchmarks.cli import Command, main
from benchmarks.files import check_file


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, TableConfig)
    settings.check()
    sources, form = sources_of(settings.source), format_of(settings.format, settings.out)
    if settings.out is not None:
        check_file("out", Path(settings.out))
    from analysis.logs import load  # takes the time that pandas and scipy take
    from analysis.tables import compare

    result = compare(load(sources), settings, sources)
    if settings.out is None:
        result.print(form)
    else:
        result.write(Path(settings.out), form)
    return 0


COMMAND = Command(
    name="analysis.table",
    summary="a comparison table from logged runs: methods as rows, pairs as columns, mean and spread over seeds",
    examples=(
        "python -m analysis.table source=runs",
        "python -m analysis.table source=runs out=table.tex published=shown",
        "python -m analysis.table 'source=[runs,me/project]' 'methods=[kd,aftkd]' compare=kd",
    ),
    config=TableConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
