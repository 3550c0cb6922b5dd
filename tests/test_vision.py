"""The one way to torchvision: works beside any torch, and hides no other failure."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import vision

REPOSITORY = Path(__file__).parents[1]


def python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, optionally with a folder that comes first where modules are looked for."""
    first = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", first + code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


def test_a_fresh_interpreter_imports_torchvision_with_its_data_sets() -> None:
    done = python(
        "from benchmarks.vision import torchvision\n"
        "first, second = torchvision(), torchvision()\n"
        "assert first is second\n"
        "assert first.datasets.CIFAR100.base_folder == 'cifar-100-python'\n"
        "import torchvision.transforms, torchvision as again\n"
        "assert again is first\n"
        "print(first.__version__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(".")[0].isdigit()


BROKEN = (
    ("raise RuntimeError('operator torchvision::roi_align does not exist')", "torchvision::roi_align"),
    ("raise RuntimeError('broken for another reason')", "broken for another reason"),
    ("import no_such_module_of_torchvision", "no_such_module_of_torchvision"),
    # Even the known failure is told where declaring the operators does not mend it.
    ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms"),
)


def test_a_broken_torchvision_is_not_hidden(tmp_path: Path) -> None:
    package = tmp_path / "torchvision" / "__init__.py"
    package.parent.mkdir()
    done = python(
        f"""
sys.dont_write_bytecode = True
from pathlib import Path
from benchmarks.vision import torchvision
for line, said in {BROKEN!r}:
    Path({str(package)!r}).write_text(line)
    try:
        torchvision()
    except (RuntimeError, ImportError) as error:
        assert said in str(error), (line, error)
        print("told")
""",
        path=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["told"] * len(BROKEN)


def test_another_failure_leaves_the_imported_modules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    marker = ModuleType("torchvision.marker")
    monkeypatch.setitem(sys.modules, "torchvision.marker", marker)

    def fail(name: str) -> ModuleType:
        raise RuntimeError(f"cannot import {name} today")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="cannot import torchvision today"):
        vision.torchvision()
    assert sys.modules["torchvision.marker"] is marker


def test_nothing_else_imports_torchvision() -> None:
    """By the text of the sources: `import torchvision` anywhere else fails beside a CPU-only torch."""
    for package in ("benchmarks", "methods", "sweeps", "analysis"):
        for path in (REPOSITORY / package).rglob("*.py"):
            lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
            found = [
                line for line in lines if line[:1] in (["import"], ["from"]) and line[1].startswith("torchvision")
            ]
            assert not found, path
