"""What no protocol may be: values that nothing can be computed with, and settings that cannot act."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any

from benchmarks.config import KEPT, DataConfig, Optimizer, RunConfig, TrainConfig, Views, plain
from benchmarks.errors import UserError, require
from benchmarks.files import check_path
from benchmarks.variants import Variant, refuse_dead
from methods import InvalidSetting, available, dead_settings
from methods.config import check_numbers
from methods.schedules import LossConfig

REFERENCES = ("teacher", "student alone")  # rows that tables have beside those of methods


def check(run: RunConfig, variants: list[Variant], given: frozenset[str]) -> None:
    """Refuse what needs no network to be seen wrong.

    Args:
        run: resolved.
        variants: what its students are to be trained with.
        given: keys that the user set.

    Raises:
        UserError: a value that cannot work, naming its key.
    """
    labels = [variant.label for variant in variants]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"methods: two are called '{label}'; give variants a label")
    for name, label in ((variant.method.name, variant.label) for variant in variants):
        if label != name and label in (*available(), *REFERENCES):
            raise UserError(f"methods: {name} has the label '{label}', that of other runs in tables: give another")
    check_bounds(run)
    for variant in variants:
        check_storable(plain(variant.method), "method")
    check_train(run.train, given)
    if run.train.optimizer == Optimizer.dot:
        _check_dot(run.train, variants)
    check_data(run.data)
    check_path("output", run.output)
    check_path("teacher.root", run.teacher.root)
    check_path("teacher.checkpoint", run.teacher.checkpoint)
    _check_views(run, variants)
    _check_project(run.tracking.project)
    _check_loss(run.loss, variants, {key.split(".")[1] for key in given if key.startswith("loss.")})


def check_bounds(config: Any) -> None:
    """Refuse numbers that cannot be stored or are beyond the bounds of their fields."""
    check_storable(plain(config))
    try:
        check_numbers(config)
    except InvalidSetting as error:
        raise UserError(str(error)) from None


def check_storable(content: Any, key: str = "") -> None:
    """Refuse numbers that are not finite or of more than 63 bits, anywhere in a plain configuration."""
    if isinstance(content, dict):
        for name, value in content.items():
            check_storable(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            check_storable(value, key)
    elif isinstance(content, float):
        require(math.isfinite(content), f"{key}={content} must be a finite number")
    elif isinstance(content, int):
        require(abs(content) < 2**63, f"{key}={content} has more than 63 bits")


def _check_project(name: str) -> None:
    """W&B's own rules, before anything is spent."""
    require(
        len(name) <= 128 and not set(name) & set("/\\#?%:"),
        f"tracking.project={name}: W&B takes at most 128 characters and none of / \\ # ? % :",
    )


def _check_dot(train: TrainConfig, variants: list[Variant]) -> None:
    """DOT keeps two kinds of gradients apart: there must be both, and their momenta must be momenta."""
    for variant in variants:
        terms = variant.method.terms
        require(
            "ce" in terms and len(terms) > 1,
            "train.optimizer=dot keeps the gradients of ce and of distillation apart; "
            f"{variant.label} has only {', '.join(terms)}",
        )
    require(
        0 <= train.delta <= train.momentum and train.momentum + train.delta < 1,
        f"train.delta={train.delta}: the momenta {train.momentum:g} - delta and {train.momentum:g} + delta must be "
        "in [0, 1)",
    )


def _check_views(run: RunConfig, variants: list[Variant]) -> None:
    """Refuse views that the teacher must look at all the same: more is read than is kept, or by other kernels."""
    views = run.teacher.views
    taught = [variant for variant in variants if variant.has_teacher]
    require(
        views not in KEPT or not taught or any(variant.needs for variant in taught),
        f"teacher.views={views} has no effect beside {', '.join(variant.label for variant in taught)}: "
        "nothing of the teacher is read in the main training; leave it out",
    )
    for variant in variants:
        if missing := variant.needs - KEPT.get(views, variant.needs):
            remedy = "teacher.views=embedding keeps that" if missing <= KEPT[Views.embedding] else "leave it out"
            raise UserError(
                f"teacher.views={views} has no effect beside {variant.label}, which reads the teacher's "
                f"{' and '.join(sorted(missing))}: {remedy}, or train {variant.label} apart"
            )
    require(
        not (run.train.compile and views in KEPT),
        f"train.compile=true: teacher.views={views} keeps what torch's own kernels compute; choose one",
    )


def check_data(config: DataConfig) -> None:
    """Refuse folders that cannot be looked at."""
    check_path("data.root", config.root)
    check_path("data.cache", config.cache)


def check_train(train: TrainConfig, given: Collection[str]) -> None:
    """Refuse protocol values that cannot work together; `given` are the keys that the user set."""
    forbidden = forbids_compiling(train)
    require(not (train.compile and forbidden), f"train.compile=true: {forbidden}")
    refuse_dead(train, {key.split(".")[1] for key in given if key.startswith("train.")}, "train.")
    require(
        train.milestones == sorted(set(train.milestones))
        and all(0 < milestone < train.epochs for milestone in train.milestones),
        f"train.milestones={train.milestones} must ascend between 1 and train.epochs - 1 = {train.epochs - 1}",
    )


def _check_loss(loss: LossConfig, variants: list[Variant], given: set[str]) -> None:
    """A loss setting must act on one of the methods at least."""
    schedules = {variant.schedule for variant in variants}
    complaints = [set(dead_settings(dataclasses.replace(loss, schedule=schedule), given)) for schedule in schedules]
    if dead := set.intersection(*complaints):
        raise UserError("\n".join(f"loss.{complaint}" for complaint in sorted(dead)))


def forbids_compiling(train: Any) -> str | None:
    """Why this protocol cannot be computed by compiled kernels; None where it can."""
    if train.deterministic:
        return "compiled kernels are not known to repeat bit for bit; leave it out with train.deterministic=true"
    if train.optimizer == Optimizer.dot:
        return "train.optimizer=dot asks what each loss reaches, which compiled kernels do not tell"
    return None
