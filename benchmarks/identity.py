"""What a run is: a hash of all settings that can change its result, and the code and machine that it ran on."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import methods
from benchmarks import data, models
from benchmarks.config import plain
from benchmarks.hashing import short_hash
from benchmarks.variants import StudentConfig
from methods import default_of, plugins

PACKAGE = Path(__file__).parent
LONGEST_NAME = 60  # characters, at most four bytes each: file systems take 255 bytes


def identity(config: Any) -> Any:
    """The part of a configuration that can change a result, less what came later and has its default."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {
            field.name: identity(getattr(config, field.name))
            for field in dataclasses.fields(config)
            if field.metadata.get("identity", True) and not _as_before(config, field)
        }
    return plain(config)


def _as_before(config: Any, field: dataclasses.Field[Any]) -> bool:
    """Whether a field came later and has its default, with which all is as it was without the field."""
    return field.metadata.get("later", False) and bool(getattr(config, field.name) == default_of(field))


def run_id(config: StudentConfig, teacher_sha256: str | None, attempt: int = 0) -> str:
    """The id of a student's run.

    Args:
        config: resolved.
        teacher_sha256: of the teacher's weights; None for a method that needs no teacher.
        attempt: 0, or the number of the rerun.
    """
    content = {"config": identity(config), "teacher": teacher_sha256}
    if attempt:
        content["attempt"] = attempt
    return short_hash(content)


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^\w.=+-]+", "_", label)[:LONGEST_NAME].strip("._") or "unnamed"


def file_name(words: str) -> str:
    """These words as a name of files; a long one, whose end may have been cut off, ends in a hash of them."""
    name = slug(words)
    return name if len(name) < LONGEST_NAME else f"{name[:-9]}-{short_hash(words, 8)}"


@cache
def code_version() -> dict[str, str]:
    """Commit, whether the tree differs from it, and a hash of the sources that compute results."""
    digest = hashlib.sha256()
    root = PACKAGE.parent
    for package in ("benchmarks", "methods"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    for place, path in plugins.sources():
        digest.update(place.encode() + b"\0" + path.read_bytes())
    version = {"version": _version(), "sources": digest.hexdigest()[:12]}
    commit = _git("rev-parse", "HEAD")
    if commit:
        version["commit"] = commit + ("-dirty" if _git("status", "--porcelain") else "")
    return version


@cache
def method_version(name: str) -> dict[str, str]:
    """A hash of a method's own code: of the files that define its class and the methods it extends.

    Comments, docstrings and layout do not count. Nothing where there are no files, as in a notebook.
    """
    return _version_of("method_sources", _modules(methods.get(name), methods.Method))


@cache
def network_version(network: str, data_name: str) -> dict[str, str]:
    """A hash of the code of a student's network and its data set, as of `method_version`."""
    entry, load = models.entry(network), data.INFO[data_name].load
    of_network = _modules(entry.maker, models.Network) if isinstance(entry.maker, type) else [entry.module]
    return _version_of("network_sources", [*of_network, load.__module__])


def _modules(cls: type, base: type) -> list[str]:
    """Those that define a class and what it extends, up to `base`."""
    return [each.__module__ for each in cls.__mro__ if issubclass(each, base) and each is not base]


def _version_of(what: str, modules: Iterable[str]) -> dict[str, str]:
    try:
        texts = [inspect.getsource(sys.modules[module]) for module in modules]
    except (OSError, TypeError, KeyError):
        return {}
    return {what: short_hash([_meaning(ast.parse(text)) for text in dict.fromkeys(texts)], 12)}


def _meaning(node: Any) -> Any:
    """A syntax tree without docstrings, positions and empty fields, which come and go with Python's versions."""
    if isinstance(node, list):
        return [_meaning(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, _meaning(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _is_docstring(node: Any) -> bool:
    """Whether it is a text that nothing is done with."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _version() -> str:
    """The package's version; "unknown" in a checkout that was never installed."""
    try:
        return metadata.version("kd-benchmarks")
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str:
    """What git says of the checkout this package lies in; nothing where it is installed elsewhere."""
    if not (PACKAGE.parent / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def environment(device: torch.device) -> dict[str, Any]:
    """Hardware and library versions."""
    libraries = {name: metadata.version(name) for name in ("torchvision", "numpy", "wandb", "scikit-learn")}
    return {
        "device": hardware(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        # torch's own word names the build, as 2.11.0+cu130; its package's may leave that out.
        "libraries": {"torch": str(torch.__version__), **libraries},
    }


def hardware(device: torch.device) -> str:
    """The name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
