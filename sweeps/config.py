"""What a study can be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from benchmarks.config import CheckpointConfig, TeacherConfig, TrackingConfig, TrainConfig
from methods import option
from methods.schedules import LossConfig


class Sampler(StrEnum):
    tpe = "tpe"
    random = "random"


class Pruner(StrEnum):
    default = "default"
    hyperband = "hyperband"
    wilcoxon = "wilcoxon"
    none = "none"


@dataclass(frozen=True)
class StorageConfig:
    """Where studies are."""

    storage: str = option(
        MISSING,
        "sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE or grpc://HOST:PORT, which several "
        "machines may share; default: studies.db in `output`",
    )
    output: str = option("studies", "folder for studies: their runs, teachers, plots and the default storage")


@dataclass(frozen=True)
class SearchConfig(StorageConfig):
    """How hyper-parameters are searched, whatever they are of."""

    pair: Any = option(None, "teacher and student; custom ones: pair=custom pair.teacher=… pair.student=…")
    data: Any = option(
        None, "the data set; a tenth of its training set is held out unless data.validation says otherwise"
    )
    trials: int = option(
        MISSING,
        "finished trials (complete or pruned) of the whole study, whoever trains them; default: 50, or all of "
        "a grid",
    )
    budget: int = option(
        MISSING,
        "epochs of a trial, the learning rate's schedule compressed to them; default: an eighth of the data set's, "
        "at least 3",
    )
    seeds: list[int] = option([0], "of the students; a trial's score is the mean over them")
    confirm: int = option(3, "fresh seeds on which the best trial and the defaults are trained again; 0: none")
    workers: int = option(1, "processes on this machine")
    cohort: int = option(4, "trials that a worker trains together with one teacher forward pass, 1 to 4")
    sampler: Sampler = option(Sampler.tpe, "tpe or random")
    pruner: Pruner = option(
        Pruner.default,
        "hyperband (over epochs), wilcoxon (over seeds) or none; default: hyperband; none for a grid",
    )
    seed: int = option(0, "of the sampler")
    heartbeat: float = option(
        30.0, "seconds between a worker's signs of life; after four are missed, its trials go to others"
    )
    train: TrainConfig = option(TrainConfig, "training protocol; epochs are the budget")
    teacher: TeacherConfig = option(
        TeacherConfig, "where the teacher comes from, which is trained on the train part alone"
    )
    checkpoint: CheckpointConfig = option(CheckpointConfig, "when training is saved")
    tracking: TrackingConfig = option(TrackingConfig, "Weights & Biases; the group is the study")


@dataclass(frozen=True)
class StudyConfig(SearchConfig):
    """One study."""

    space: str = option(MISSING, "what is searched: a space, or a method's name for all of its own settings")
    study: str | None = option(None, "its name; default: from space, method, pair, data set and budget")
    method: Any = option(
        None,
        "the method; where the search starts, and what is not searched, is set by method.*; default: the space's",
    )
    loss: LossConfig = option(LossConfig, "schedule of the loss weights; where it is searched, the start")
