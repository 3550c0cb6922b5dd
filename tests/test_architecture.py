"""Imports flow one way: methods ← benchmarks ← sweeps, and analysis reads logs, without torch."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = frozenset({"methods", "benchmarks", "sweeps", "analysis"})
MAY_IMPORT = {
    "methods": {"methods"},
    "benchmarks": {"benchmarks", "methods"},
    "sweeps": {"sweeps", "benchmarks", "methods"},
    "analysis": {"analysis", "benchmarks"},  # of benchmarks only leaves, see below
}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


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


def files_behind(name):
    """The files that importing `name` executes: its own and those of the packages around it."""
    parts = name.split(".")
    candidates = [ROOT.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    candidates.append(ROOT.joinpath(*parts).with_suffix(".py"))
    return [path for path in candidates if path.is_file()]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_downwards(package):
    for path in modules(package):
        upwards = (roots(path) & OURS) - MAY_IMPORT[package]
        assert not upwards, f"{path.relative_to(ROOT)} imports {', '.join(upwards)}"


def test_methods_need_torch_and_nothing_else():
    allowed = {"torch", "methods"} | sys.stdlib_module_names
    found = {path.name: roots(path) - allowed for path in modules("methods")}
    assert len(found) > 5
    assert not {name: extra for name, extra in found.items() if extra}


def test_analysis_reads_logs_without_torch():
    for path in modules("analysis"):
        assert not roots(path) & {"torch", "torchvision"}, path
        for name in imports(path):
            if name.split(".")[0] != "benchmarks":
                continue
            for leaf in files_behind(name):
                extra = roots(leaf) - sys.stdlib_module_names
                assert not extra, f"{path.name} imports {name}, which needs {', '.join(extra)}"


def test_the_walk_sees_every_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "methods" / "deep" / "file.py"
    path.parent.mkdir(parents=True)
    path.write_text("import a.b\ndef f():\n    from c import d\n    from .. import e\n    from .g import h\n")
    assert imports(path) == {"a.b", "c", "c.d", "methods", "methods.e", "methods.deep.g", "methods.deep.g.h"}
