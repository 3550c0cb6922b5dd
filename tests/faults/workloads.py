"""What is killed: commands of seconds, and all that they leave behind."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import wandb.sdk.launch.inputs.internal  # noqa: F401  every run loads it, which takes as long as a short training
from commands import TINY, merge, without_times
from faults import searches
from faults.kills import Workload
from safetensors.torch import load_file
from small_cifar100 import Copy

from analysis import table as table_command
from benchmarks import run as run_command
from benchmarks import teacher as teacher_command
from benchmarks.cli import main
from benchmarks.data import cifar100
from benchmarks.data.dataset import PARTS
from benchmarks.files import read_record
from benchmarks.suite.command import COMMAND as SUITE
from benchmarks.tensors import tensors_sha256
from sweeps.ledger import MOST_DEATHS

SHORT = ("train.epochs=3", "train.max_steps=4", "train.batch_size=4", "train.milestones=[1]")


def _words(folder: Path) -> list[str]:
    return [
        *merge(TINY, [*SHORT, "tracking.mode=offline"]),
        f"output={folder / 'runs'}",
        f"data.cache={folder / 'cache'}",
        "checkpoint.every_steps=2",
    ]


def _cohort(folder: Path) -> int:
    """Teacher, then two students with a memory bank and adaptive weights."""
    return main(run_command.COMMAND, [*_words(folder), "methods=[crd,aftkd]"])


def _teacher(folder: Path) -> int:
    words = ["network=resnet8", "data=digits", "train.epochs=3", "train.max_steps=6", "train.threads=1"]
    words += [f"output={folder / 'runs'}", "checkpoints.every_steps=2", "train.precision=fp32"]
    return main(teacher_command.COMMAND, words)


def _suite(folder: Path) -> int:
    """Two seeds of three students."""
    words = [word for word in _words(folder) if not word.startswith("pair")]
    return main(
        SUITE, [*words, "methods=[none,kd,aftkd]", "pairs=[{teacher: resnet8, student: resnet8}]", "seeds=[0,1]"]
    )


def _decode(folder: Path) -> int:
    for part in PARTS:
        cifar100.load(folder / "data", folder / "cache", part)
    return 0


def _data(folder: Path) -> None:
    Copy().parquet(folder / "data")


def results(folder: Path) -> dict[str, Any]:
    """Weights and history of every run and teacher below a folder, and the table that the logs make."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("runs/**/*.safetensors")):
        found[path.relative_to(folder).as_posix()] = tensors_sha256(load_file(path))
    for path in sorted([*folder.rglob("result.json"), *folder.rglob("card.json")]):
        found[path.relative_to(folder).as_posix()] = without_times(read_record(path)["history"])
    assert found
    halves = [path.name for path in folder.rglob("runs/**/*") if path.suffix == ".pt" or path.name.startswith(".")]
    assert set(halves) <= {".lock"}, f"left behind: {halves}"
    return found


def results_and_table(folder: Path) -> dict[str, Any]:
    """The same, and the table that the logs make, which a kill may have torn."""
    out = folder / "table.csv"
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(table_command.COMMAND, [f"source={folder / 'runs'}", f"out={out}"]) == 0
    return results(folder) | {"table": out.read_text()}


def _decoded(folder: Path) -> Any:
    cached = sorted((folder / "cache").glob("cifar100*"))
    assert len(cached) == len(PARTS)
    return [tensors_sha256(load_file(path)) for path in cached]


WORKLOADS = {
    "run": Workload(_cohort, results_and_table),
    "suite": Workload(_suite, results_and_table),
    "teacher": Workload(_teacher, results),
    "cache": Workload(_decode, _decoded, _data),
    "sweep": Workload(searches.one_by_one, searches.table, most=MOST_DEATHS),
    "journal": Workload(searches.in_cohorts, searches.as_alone, most=MOST_DEATHS),
}
