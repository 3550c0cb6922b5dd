"""Methods, networks and data sets of other installed packages, which name them by entry points.

In such a package's `pyproject.toml`, each group with names of its own choosing, but for data sets their own::

    [project.entry-points."kd_benchmarks.methods"]
    mine = "mykd.mine"  # a module that registers

    [project.entry-points."kd_benchmarks.models"]
    mynet = "mykd.networks"  # a module that registers

    [project.entry-points."kd_benchmarks.data"]
    mydata = "mykd.data:INFO"  # a `DataInfo`
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

KINDS = ("methods", "models", "data")


def entries(kind: str) -> list[EntryPoint]:
    """What other packages have of a kind."""
    return sorted(entry_points(group=f"kd_benchmarks.{kind}"))


def sources() -> Iterator[tuple[str, Path]]:
    """The Python files of these packages, each with its place in its package: their code computes results, too."""
    for package in sorted({each.module.split(".")[0] for kind in KINDS for each in entries(kind)}):
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or []:
            for path in sorted(Path(folder).rglob("*.py")):
                yield f"{package}/{path.relative_to(folder).as_posix()}", path
        if spec and spec.origin and not spec.submodule_search_locations:
            yield Path(spec.origin).name, Path(spec.origin)
