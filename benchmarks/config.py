"""What a run can be told: dataclasses whose fields carry their meaning, composed by Hydra.

A field whose default is `MISSING` is one that a choice sets, such as a pair's networks, or is filled in by
`benchmarks.protocol` from the data set, the networks, the machine and the environment. So a resolved configuration
shows every value that was used.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from methods import option
from methods.schedules import LossConfig

MOST_THREADS = 1024  # beyond, a typing error is likelier than a machine


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Optimizer(StrEnum):
    sgd = "sgd"
    dot = "dot"


class LrSchedule(StrEnum):
    step = "step"
    cosine = "cosine"


class Mode(StrEnum):
    offline = "offline"
    online = "online"
    disabled = "disabled"


class Views(StrEnum):
    auto = "auto"
    none = "none"
    logits = "logits"
    embedding = "embedding"


def _steps(train: TrainConfig) -> bool:
    return train.schedule == LrSchedule.step


_STEPS: Any = {"live": _steps, "live_when": "with train.schedule=step"}

# Parts of the teacher's features that each choice keeps.
KEPT = {Views.logits: frozenset({"logits"}), Views.embedding: frozenset({"logits", "embedding"})}


@dataclass(frozen=True)
class PairConfig:
    """Teacher and student."""

    name: str = option("custom", "the pair; part of the run's folder")
    teacher: str = option(MISSING, "network of the teacher; python -m benchmarks.run lists all")
    student: str = option(MISSING, "network of the student, of the same list")


@dataclass(frozen=True)
class DataConfig:
    """Data set."""

    name: str = option(MISSING, "the data set")
    root: str = option(MISSING, "folder that holds data sets; default: $KD_DATA, else ./data", identity=False)
    cache: str = option(
        MISSING, "folder for decoded images; default: kd-benchmarks in the user's cache", identity=False
    )
    validation: float = option(
        0.0,
        "part of the training set to hold out and evaluate on instead of the test set, in [0, 1)",
        least=0,
        below=1,
    )

    @property
    def split(self) -> str:
        """Name of what is evaluated on."""
        return "val" if self.validation else "test"


@dataclass(frozen=True)
class TrainConfig:
    """Training protocol of the student; the defaults are CRD's (ICLR 2020), which most papers since follow."""

    epochs: int = option(
        MISSING, "passes over the training set; default: the data set's", source="CRD: 240", least=1
    )
    batch_size: int = option(64, "images per step", source="CRD", least=1)
    lr: float = option(
        MISSING, "learning rate; default: the student's", source="CRD: 0.05, mobile nets 0.01", above=0
    )
    momentum: float = option(0.9, "of SGD", source="CRD", least=0, below=1)
    weight_decay: float = option(5e-4, "of SGD, on all parameters", source="CRD", least=0)
    optimizer: Optimizer = option(
        Optimizer.sgd,
        "sgd, or dot, which has separate momenta for the gradients of ce and of distillation",
        source="DOT (ICCV 2023)",
    )
    delta: float = option(
        0.075,
        "what dot adds to the momentum for distillation's gradients, and subtracts from that for the task's",
        source="DOT (ICCV 2023), CIFAR-100",
        live=lambda train: train.optimizer == Optimizer.dot,
        live_when="with train.optimizer=dot",
    )
    schedule: LrSchedule = option(
        LrSchedule.step,
        "of the learning rate, epoch by epoch: step, by milestones, or cosine, along half a cosine to 0",
        source="step: CRD; cosine: SGDR (ICLR 2017), without restarts",
        later=True,
    )
    milestones: list[int] = option(
        lambda: MISSING,
        "epochs after which the learning rate falls; default: scaled from 150, 180, 210 of 240",
        source="CRD",
        **_STEPS,
    )
    decay: float = option(
        0.1, "factor on the learning rate at each milestone", source="CRD", above=0, most=1, **_STEPS
    )
    max_steps: int | None = option(None, "at most so many steps per epoch, for short trials; default: all", least=1)
    precision: Precision = option(
        Precision.auto,
        "auto, fp32 or bf16; auto: bf16 if the device computes in it, else fp32; by torch's default, GPUs with "
        "TF32 convolve fp32 in it",
    )
    device: Device = option(Device.auto, "auto, cpu or cuda; auto: cuda if there is a GPU")
    threads: int = option(
        MISSING, "threads on the CPU; default: torch's, beside a GPU 4", least=1, most=MOST_THREADS
    )
    deterministic: bool = option(False, "bit-identical results on a GPU too, more slowly")
    compile: bool | None = option(
        None,
        "compute networks and losses by kernels that torch compiles at the first step, after checking them against "
        "its own; default: on a GPU, if the training is long enough to repay the minutes that this takes",
    )
    graph: bool = option(
        True,
        "on a GPU, replay steps as a CUDA graph, after checking it against launched kernels; false: launch them",
        identity=False,
    )

    @property
    def compiles(self) -> bool:
        """Whether networks and losses are computed by compiled kernels."""
        return bool(self.compile)


@dataclass(frozen=True)
class StoreConfig:
    """Where teachers are kept."""

    root: str = option(MISSING, "the teacher store; default: teachers in `output`", identity=False)


@dataclass(frozen=True)
class TeacherConfig(StoreConfig):
    """Where the teacher comes from."""

    checkpoint: str | None = option(
        None,
        "a trained teacher: RepDistiller's, mdistiller's or this project's file; default: the store's",
        identity=False,
    )
    epochs: int = option(
        MISSING,
        "of a teacher trained here; default: train.epochs, at most the data set's",
        least=1,
        identity=False,
    )
    seed: int = option(0, "of a teacher trained here", least=0, identity=False)
    views: Views = option(
        Views.auto,
        "auto, none, logits or embedding (with the logits): keep the teacher's outputs for each crop and flip of "
        "each image, for this and later runs of methods that read nothing else; results are the same bit for bit; "
        "auto: on a CPU, if that saves a quarter of the teacher's work and takes at most a quarter of the free "
        "memory and disk",
        identity=False,
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """When training is saved, beside the end of an epoch and an interruption."""

    every_steps: int | None = option(
        None,
        "also after every so many steps, for long epochs; default: at epochs' ends only",
        least=1,
        identity=False,
    )


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases."""

    mode: Mode = option(MISSING, "offline, online or disabled; default: $WANDB_MODE, else offline", identity=False)
    project: str = option("kd-benchmarks", "W&B project", identity=False)
    entity: str | None = option(None, "W&B user or team; default: the account's", identity=False)
    group: str | None = option(None, "W&B group; default: the pair", identity=False)
    artifacts: bool = option(
        False,
        "also write logits, embeddings, attention maps and AFBs on evaluation images, for figures",
        identity=False,
    )


@dataclass(frozen=True)
class RunConfig:
    """One student, or a cohort of students under one teacher."""

    method: Any = option(None, "the distillation method; its settings are method.*")
    methods: list[Any] = option(
        [],
        "several methods in one cohort: names, or variants {name: kd, label: soft, temperature: 8}, "
        "with a loss schedule of their own {name: aftkd, label: fixed, loss: {schedule: fixed}}",
    )
    pair: Any = option(None, "teacher and student; custom ones: pair=custom pair.teacher=… pair.student=…")
    data: Any = option(None, "the data set")
    seed: int = option(0, "of the student: initialisation, batch order, augmentation, the method's draws", least=0)
    train: TrainConfig = option(
        TrainConfig, "training protocol; a teacher trained here takes epochs, max_steps and the machine from it"
    )
    loss: LossConfig = option(LossConfig, "schedule of the loss weights")
    teacher: TeacherConfig = option(TeacherConfig, "where the teacher comes from")
    checkpoint: CheckpointConfig = option(CheckpointConfig, "when training is saved")
    tracking: TrackingConfig = option(TrackingConfig, "Weights & Biases")
    output: str = option("runs", "folder for runs and teachers", identity=False)
    rerun: bool = option(False, "run again although complete, as a further attempt", identity=False)


def plain(config: Any) -> Any:
    """A configuration as JSON-able mappings, lists and values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value) for value in config]
    return str(config) if isinstance(config, str) else config
