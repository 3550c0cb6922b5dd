"""What a grid can be told: all that `benchmarks.run` can, for many runs at once, and where they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from benchmarks.config import CheckpointConfig, TeacherConfig, TrackingConfig, TrainConfig
from methods import option
from methods.schedules import LossConfig

# What a grid and each of its runs are told alike.
SHARED = ("data", "train", "loss", "teacher", "checkpoint", "tracking", "output", "rerun")
# What the command itself goes by; where results go and reruns are its runs' affair, too.
OF_LAUNCH = ("suite", "launcher", "workers", "address", "gpus", "retries", "dry_run", "output", "rerun")
ALL = "all"  # in a list of methods or pairs


class LauncherKind(StrEnum):
    local = "local"
    ray = "ray"


def _on_ray(config: SuiteConfig) -> bool:
    return config.launcher == LauncherKind.ray


_RAY: Any = {"live": _on_ray, "live_when": "with launcher=ray", "identity": False}


@dataclass(frozen=True)
class SuiteConfig:
    """A grid: one student for each method, pair and seed."""

    suite: Any = option(None, "a named grid; other settings override its own")
    methods: list[Any] = option(
        [], "names, variants {name: kd, label: soft, temperature: 8} as for benchmarks.run, or all"
    )
    pairs: list[Any] = option(
        [],
        "names, other networks {teacher: resnet20, student: resnet8}, or all; with seeds or training settings of "
        "their own: {name: vgg13_vgg8, seeds: [0], train: {epochs: 1}}",
    )
    seeds: list[int] = option([0], "of the students")
    own_teachers: bool = option(
        False,
        "train each seed's students under a teacher of that seed, so that spreads and tests take in the teachers'; "
        "default: all under one",
    )
    launcher: LauncherKind = option(LauncherKind.local, "where to train: local or ray", identity=False)
    workers: int = option(
        1,
        "tasks at a time on this machine, each in a process with its device or its share of the cores; 1: in this "
        "process",
        live=lambda config: config.address is None,
        live_when="without address: a cluster's size is Ray's to know",
        least=1,
        identity=False,
    )
    address: str | None = option(None, "an existing Ray cluster's, or auto; default: Ray on this machine", **_RAY)
    gpus: float | None = option(
        None, "GPUs per task; 0.5: two tasks share one; default: 1 on cuda", least=0, **_RAY
    )
    retries: int = option(3, "how often Ray restarts a task that lost its worker", least=0, **_RAY)
    dry_run: bool = option(False, "show the plan and train nothing", identity=False)
    data: Any = option(None, "the data set")
    train: TrainConfig = option(
        TrainConfig, "training protocol; a teacher trained here takes epochs, max_steps and the machine from it"
    )
    loss: LossConfig = option(LossConfig, "schedule of the loss weights")
    teacher: TeacherConfig = option(TeacherConfig, "where the teachers come from")
    checkpoint: CheckpointConfig = option(CheckpointConfig, "when training is saved")
    tracking: TrackingConfig = option(TrackingConfig, "Weights & Biases")
    output: str = option("runs", "folder for runs and teachers", identity=False)
    rerun: bool = option(False, "run again although complete, as a further attempt", identity=False)
