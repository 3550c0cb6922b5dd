"""Imports flow one way: methods ← benchmarks ← sweeps, and analysis reads logs, without torch."""

import ast
import sys
from pathlib import Path

import pytest
from light import assert_light

ROOT = Path(__file__).parent.parent
OURS = frozenset({"methods", "benchmarks", "sweeps", "analysis"})
MAY_IMPORT = {
    "methods": {"methods"},
    "benchmarks": {"benchmarks", "methods"},
    "sweeps": {"sweeps", "benchmarks", "methods"},
    "analysis": {"analysis", "benchmarks", "methods"},  # of the last two only leaves, see below
}
# What readers of logs may use: the grammar of commands, names, published figures, files, the look of
# figures. None of it needs torch.
LEAVES = (
    "benchmarks.cli",
    "benchmarks.overrides",
    "benchmarks.clock",
    "benchmarks.console",
    "benchmarks.errors",
    "benchmarks.files",
    "benchmarks.hashing",
    "benchmarks.later",
    "benchmarks.metrics",
    "benchmarks.pairs",
    "benchmarks.published",
    "benchmarks.style",
    "benchmarks.words",
    "methods.config",
)


def modules(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


def imports(path):
    """Absolute dotted names that a file imports, at any depth; `from a import b` gives `a` and `a.b`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def roots(path):
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_downwards(package):
    for path in modules(package):
        upwards = (roots(path) & OURS) - MAY_IMPORT[package]
        assert not upwards, f"{path.relative_to(ROOT)} imports {', '.join(upwards)}"


def test_methods_need_torch_and_nothing_else():
    allowed = {"torch", "methods"} | sys.stdlib_module_names
    found = {path.name: roots(path) - allowed for path in modules("methods")}
    assert not {name: extra for name, extra in found.items() if extra}


def test_analysis_reads_logs_without_torch():
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in modules("analysis")]
    lines = [f"import {name.removesuffix('.__init__')}" for name in [*LEAVES, *names]]
    assert_light({"torch", "torchvision"}, *lines)


def test_analysis_uses_only_the_leaves_of_the_harness():
    for path in modules("analysis"):
        ours = {name for name in imports(path) if name.split(".")[0] in {"benchmarks", "methods"}}
        known = {"benchmarks", "methods", *LEAVES}
        assert not {name for name in ours if name not in known and name.rpartition(".")[0] not in known}, path


def test_the_walk_sees_every_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "methods" / "deep" / "file.py"
    path.parent.mkdir(parents=True)
    path.write_text("import a.b\ndef f():\n    from c import d\n    from .. import e\n    from .g import h\n")
    assert imports(path) == {"a.b", "c", "c.d", "methods", "methods.e", "methods.deep.g", "methods.deep.g.h"}
