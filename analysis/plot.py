"""`python -m analysis.plot`: figures of logged runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from analysis.figures.settings import MEANING, FigureKind, PlotConfig
from analysis.settings import sources_of
from benchmarks.cli import Command, main
from benchmarks.errors import UserError, require
from benchmarks.files import check_file
from methods import dead_settings, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.figures.view import View
    from analysis.logs import Logs

FORMATS = (".pdf", ".png", ".svg")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """The command, from its composed configuration."""
    options = resolve(config, given)
    paths = paths_of(options.out, options.kind)
    sources = sources_of(options.source)
    for path in paths:
        check_file("out", path)
    from analysis.logs import load  # takes the time that pandas and matplotlib take
    from benchmarks.style import save

    view = _view(load(sources), options)
    drawn = draw(view, options)
    for path in paths:
        save(drawn, path)
        print(path)
    for remark in view.remarks:
        print(f"note: {remark}", file=sys.stderr)
    return 0


def figure(logs: Logs, kind: FigureKind | str, **settings: Any) -> Figure:
    """A figure of loaded runs.

    Args:
        logs: of one protocol, or with `protocol=` to choose it.
        kind: what to show.
        settings: as of the command, but for `source` and `out`; `help` tells them.

    Raises:
        UserError: an unknown kind, a setting that cannot work or act, or nothing to draw.
        InvalidSetting: none of a setting's choices.
    """
    require(kind in set(FigureKind), unknown("kind of figure", kind, FigureKind))
    for name in ("source", "out"):
        require(name not in settings, f"{name}= is of the command: a figure is of loaded logs, and returned")
    options = _checked(PlotConfig(kind=FigureKind(kind), **settings), settings)
    return draw(_view(logs, options), options)


def _view(logs: Logs, options: PlotConfig) -> View:
    """The runs that were asked for."""
    from analysis.figures.view import one_protocol

    return one_protocol(logs, options.methods, options.pairs, options.protocol, options.epoch, options.variants)


def resolve(config: DictConfig, given: frozenset[str]) -> PlotConfig:
    """The settings, checked.

    Raises:
        UserError: no kind, or a setting that cannot work or act.
    """
    if OmegaConf.is_missing(config, "kind"):
        raise UserError(
            "choose what to show:\n" + "\n".join(f"  kind={kind}: {MEANING[kind]}" for kind in FigureKind)
        )
    options = OmegaConf.to_object(config)
    assert isinstance(options, PlotConfig)
    return _checked(options, given)


def _checked(options: PlotConfig, given: Iterable[str]) -> PlotConfig:
    """The settings, of which these were given."""
    options.check()
    if complaints := dead_settings(options, given):
        raise UserError("\n".join(complaints))
    return options


def paths_of(out: Any, kind: FigureKind) -> list[Path]:
    """The files to write.

    Raises:
        UserError: a name that says no format.
    """
    names = [f"{kind}.pdf"] if out is None else [out] if isinstance(out, str) else out
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"out={out}: give a file, or several as [a.pdf,b.png]")
    for name in names:
        if Path(name).suffix.lower() not in FORMATS:
            raise UserError(f"out={name}: end the file in {', '.join(FORMATS)}")
    return [Path(name) for name in names]


def draw(view: View, options: PlotConfig) -> Figure:
    """The figure of `options.kind`.

    Raises:
        NothingToDraw: the runs hold nothing for this kind.
    """
    from benchmarks.style import applied

    with applied():
        return importlib.import_module(f"analysis.figures.{options.kind}").draw(view.since(options.start), options)


COMMAND = Command(
    name="analysis.plot",
    summary="a figure for a paper from logged runs: PDF, PNG or SVG",
    examples=(
        "python -m analysis.plot kind=curves source=runs out=curves.pdf",
        "python -m analysis.plot kind=gain source=runs 'pairs=[vgg13_vgg8]' 'out=[gain.pdf,gain.png]'",
        "python -m analysis.plot kind=attention source=runs 'methods=[aftkd]' out=attention.svg",
    ),
    config=PlotConfig,
    run=execute,
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
