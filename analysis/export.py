"""`python -m analysis.export`: runs and histories as one tidy Parquet file."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from analysis.settings import ExportConfig, sources_of
from benchmarks.cli import Command, main
from benchmarks.errors import UserError
from benchmarks.files import check_file


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    if OmegaConf.is_missing(config, "out"):
        raise UserError("out=FILE.parquet: name the file to write")
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, ExportConfig)
    sources, out = sources_of(settings.source), Path(settings.out)
    if out.suffix != ".parquet":
        raise UserError(f"out={out}: the file must end in .parquet")
    check_file("out", out)
    from analysis import parquet
    from analysis.logs import load
    from analysis.places import without_places

    logs = load(sources)
    if not settings.paths:
        logs = without_places(logs)
    parquet.save(logs, out)
    for note in logs.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{out}: {len(logs.runs):,} runs, {len(logs.history):,} rows of history")
    return 0


COMMAND = Command(
    name="analysis.export",
    summary="runs and histories as one tidy Parquet file: a row for each run and epoch, with the run's columns",
    examples=(
        "python -m analysis.export source=runs out=logs.parquet",
        "python -m analysis.export 'source=[runs,me/project]' out=logs.parquet paths=false",
    ),
    config=ExportConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
