"""A package beside the suite, installed as any other: with entry points."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, files: dict[str, str], points: dict[str, str]) -> None:
    """Put the package `mykd` into a folder of Python's path.

    Args:
        folder: of the path.
        files: texts of its modules.
        points: what it adds, by kind: `name = module`.
    """
    (folder / "mykd").mkdir(parents=True)
    for name, text in ({"__init__": ""} | files).items():
        (folder / "mykd" / f"{name}.py").write_text(text)
    told = folder / "mykd-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: mykd\nVersion: 1.0\n")
    groups = "".join(f"[kd_benchmarks.{kind}]\n{point}\n" for kind, point in points.items())
    (told / "entry_points.txt").write_text(groups)
