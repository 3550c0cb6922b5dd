"""`benchmarks.run` in this process on a configuration of seconds, and what it leaves behind."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import methods
from benchmarks import run as run_command
from benchmarks.cli import main
from benchmarks.data import Split, digits
from benchmarks.data.dataset import Part
from benchmarks.display import Display
from methods import Method, MethodConfig, option, registry

PAIR = "resnet8_resnet8"
TINY = (
    "data=digits",
    "pair=custom",
    "pair.teacher=resnet8",
    "pair.student=resnet8",
    "train.batch_size=8",
    "train.epochs=2",
    "train.max_steps=3",
    "train.threads=1",
    "train.precision=fp32",
    "tracking.mode=disabled",
)
TIMES = ("time/epoch_s", "throughput/images_per_s", "memory/peak_gib")


@functools.cache
def first_digits(part: Part, size: int) -> Split:
    """So many images of the data set."""
    return digits.load(part).subset(torch.arange(size))


@contextlib.contextmanager
def few_digits(train: int = 400) -> Iterator[None]:
    """Within it the data set has some of its images only, for speed."""
    whole = digits.load
    few = {part: first_digits(part, size) for part, size in (("train", train), ("test", 70))}
    digits.load = few.__getitem__
    try:
        yield
    finally:
        digits.load = whole


def poison_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make whoever loads the test part of digits fail."""
    whole = digits.load

    def load(part: Part) -> Split:
        assert part == "train", "the test images are read"
        return whole(part)

    monkeypatch.setattr(digits, "load", load)


@contextlib.contextmanager
def at_step(step: int, act: Callable[[Display], object]) -> Iterator[None]:
    """Within it something happens after a step of every training."""
    original = Display.on_step

    def on_step(self: Display, done: int) -> None:
        original(self, done)
        if done == step:
            act(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Display, "on_step", on_step)
        yield


def interrupted_at(step: int, signum: int = signal.SIGTERM) -> contextlib.AbstractContextManager[None]:
    """Within it every training gets a signal at a step."""
    return at_step(step, lambda display: signal.raise_signal(signum))


def start(module: str, words: Sequence[str]) -> subprocess.Popen[str]:
    """A command in a process, a group and a session of its own; nothing of W&B's in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(*words: str) -> int:
    return main(run_command.COMMAND, list(words))


def merge(base: Sequence[str], words: Sequence[str]) -> list[str]:
    """`base` with what `words` give again left out, and `words`."""
    given = {word.split("=", 1)[0] for word in words}
    return [word for word in base if word.split("=", 1)[0] not in given] + list(words)


def files(folder: Path) -> set[str]:
    """Relative paths of all files below `folder`."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run_folders(output: Path, label: str) -> list[Path]:
    """The folders of all runs of a label, oldest first."""
    return sorted((output / PAIR / label).iterdir(), key=lambda path: path.stat().st_mtime)


def run_folder(output: Path, label: str) -> Path:
    (folder,) = run_folders(output, label)
    return folder


def result(output: Path, label: str) -> dict[str, Any]:
    return json.loads((run_folder(output, label) / "result.json").read_text())


def weights(output: Path, label: str) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run_folder(output, label) / "student.safetensors")


def bare_teacher(teacher_root: Path, folder: Path) -> Path:
    """The shared teacher's weights without its accuracy: processes of their own see the whole data set."""
    (stored,) = teacher_root.rglob("teacher.safetensors")
    path = folder / "teacher.pth"
    torch.save(safetensors.torch.load_file(stored), path)
    return path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in history]


@dataclass(frozen=True)
class InjectedConfig(MethodConfig):
    name: str = option("injected", "a method of the tests")
    weights: dict[str, float] = option({"ce": 1.0, "injected": 1.0}, "weight of each loss term")


@contextlib.contextmanager
def injected(cls: type[Method[Any]]) -> Iterator[None]:
    """Within it `cls` is a registered method."""
    methods.available()
    methods.register("injected", InjectedConfig, summary="of the tests", reference=None)(cls)
    try:
        yield
    finally:
        registry._METHODS.pop("injected")
