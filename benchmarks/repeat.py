"""The command that repeats a run: what differs from the defaults, and what its machine decided."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import data
from benchmarks.config import Device, PairConfig, TeacherConfig, TrainConfig, plain
from benchmarks.overrides import as_overrides
from benchmarks.pairs import PAIRS
from benchmarks.protocol import default_lr, default_milestones
from benchmarks.variants import Specs, StudentConfig
from benchmarks.words import command_line
from methods import MethodConfig, configure, default_of
from methods.schedules import LossConfig

# Decided by the machine where nothing is said, and part of what a run is.
OF_THE_MACHINE = ("precision", "device", "threads")


def repeat(student: StudentConfig, teacher: TeacherConfig | None, attempt: int = 0) -> str:
    """A command line for a POSIX shell.

    Args:
        student: resolved.
        teacher: where its teacher came from; None where it has none.
        attempt: as of the run; a further one is asked for by `rerun=true`.
    """
    method = student.method
    settings = {
        "method": {"name": method.name} | changed(method, usual_method(method, student.pair.name)),
        "pair": pair_settings(student.pair),
        "data": {"name": student.data.name}
        | ({"validation": student.data.validation} if student.data.validation else {}),
        "seed": student.seed,
        "train": _train(student),
        "loss": changed(student.loss, LossConfig().resolve(student.method)),
        "teacher": _teacher(student, teacher) if teacher else {},
    }
    words = as_overrides({key: value for key, value in settings.items() if value != {}})
    return command_line(["python", "-m", "benchmarks.run", *words, *(["rerun=true"] if attempt else [])])


def usual_method(method: MethodConfig, pair: str) -> MethodConfig:
    """A method as it is for a pair where no more is said than the fields that the pair's settings depend on.

    These have their defaults in it: another value has to be said.
    """
    fields = {name: method.__dataclass_fields__[name] for name, _ in method.by_pair_with}
    usual = configure(method.name, **{name: getattr(method, name) for name in fields}).for_pair(pair, ())
    return dataclasses.replace(usual, **{name: default_of(field) for name, field in fields.items()})


def beyond_usual(student: StudentConfig, specs: Specs) -> dict[str, dict[str, Any]]:
    """What a student's method and loss weights are told beyond what is usual for its pair, its label apart.

    Args:
        student: resolved.
        specs: of student and teacher.

    Returns:
        Settings by group, "method" and "loss"; none of a group where all is as usual.
    """
    method = student.method
    usual = dataclasses.replace(usual_method(method, student.pair.name), label=method.label).resolve(*specs)
    told = {"method": changed(method, usual), "loss": changed(student.loss, LossConfig().resolve(usual))}
    return {group: settings for group, settings in told.items() if settings}


def changed(config: Any, usual: Any) -> dict[str, Any]:
    """Fields that have another value, and of weights only those."""
    ours, theirs = plain(config), plain(usual)
    changed = {key: value for key, value in ours.items() if value != theirs[key]}
    if "weights" in changed:
        changed["weights"] = {term: w for term, w in ours["weights"].items() if w != theirs["weights"][term]}
    return changed


def pair_settings(pair: PairConfig) -> dict[str, Any]:
    """How a pair is chosen: by its name, or by its networks where it has none."""
    if pair.name in PAIRS:
        return {"name": pair.name}
    return {"name": "custom", "teacher": pair.teacher, "student": pair.student}


def _train(student: StudentConfig) -> dict[str, Any]:
    train = student.train
    usual = {field.name: plain(default_of(field)) for field in dataclasses.fields(TrainConfig)} | {
        "epochs": data.INFO[student.data.name].epochs,
        "lr": default_lr(student.data.name, student.pair.student),
        "milestones": default_milestones(train),
        "compile": False if train.device == Device.cpu else None,  # a GPU decides
    }
    return {name: value for name, value in plain(train).items() if name in OF_THE_MACHINE or value != usual[name]}


def _teacher(student: StudentConfig, teacher: TeacherConfig) -> dict[str, Any]:
    if teacher.checkpoint is not None:
        return {"checkpoint": teacher.checkpoint}
    usual = {"epochs": min(student.train.epochs, data.INFO[student.data.name].epochs), "seed": 0}
    return {name: getattr(teacher, name) for name, value in usual.items() if getattr(teacher, name) != value}
