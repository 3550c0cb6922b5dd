"""`python -m benchmarks.teacher`: train a teacher, import a published checkpoint, or list the store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console

from benchmarks import checks, data, groups, models, protocol, teachers
from benchmarks.cli import Command, Verb, main
from benchmarks.config import CheckpointConfig, Optimizer, StoreConfig, TrainConfig
from benchmarks.console import make_console, make_table, note, warn
from benchmarks.errors import UserError, require
from benchmarks.files import CARD, check_path, check_writable
from benchmarks.images import check_images, note_images
from benchmarks.teachers import Teacher, TeacherPlan
from benchmarks.training.build import feature_spec
from benchmarks.training.checkpoints import Checkpoints, delete_leftovers
from benchmarks.training.device import device_name
from benchmarks.words import counted
from benchmarks.workbench import Workbench, prepare_torch
from methods import option, unknown


@dataclass(frozen=True)
class TeacherCommandConfig:
    """A teacher to be trained or imported."""

    network: str = option(
        MISSING, "the teacher's, one of those that python -m benchmarks.run lists; or name a pair"
    )
    pair: Any = option(None, "take the teacher of a pair")
    data: Any = option(None, "the data set")
    checkpoint: str | None = option(None, "a trained teacher to import: RepDistiller's, mdistiller's or our file")
    seed: int = option(
        0, "for its initialisation and batches; for an imported one, the number to keep it under", least=0
    )
    replace: bool = option(False, "replace the one that the store has")
    train: TrainConfig = option(TrainConfig, "training protocol; an imported teacher is assumed to have had it")
    teacher: StoreConfig = option(StoreConfig, "the teacher store")
    checkpoints: CheckpointConfig = option(CheckpointConfig, "when training is saved")
    output: str = option("runs", "folder for runs and teachers")


def execute(config: DictConfig, given: frozenset[str]) -> int:
    """Train or import the teacher."""
    command = _resolve(config, given)
    plan = TeacherPlan(command.network, command.data, command.seed, command.train, Path(command.teacher.root))
    console, device = make_console(), torch.device(plan.train.device.value)
    prepare_torch(plan.train)
    imported = None
    if command.checkpoint is not None:
        num_classes = data.INFO[plan.data.name].num_classes
        imported = teachers.given(plan.network, command.checkpoint, num_classes, "checkpoint")
    there = teachers.find(plan)
    if there and not command.replace and (imported is None or imported.sha256 == there.sha256):
        console.print(
            f"the teacher is in the store already: {plan.folder}, {there.checkpoint.claimed_top1:.2f} % top-1"
        )
        _say_who_takes(plan, console)
        delete_leftovers([plan.folder])
        return 0
    _refuse_another(plan, there, command.replace)
    check_writable("teacher.root", plan.root)
    _say_who_takes(plan, console)
    bench = Workbench(data.load(plan.data), device, console, command.checkpoints)
    if imported:
        with bench.lock(plan):
            _refuse_another(plan, teachers.find(plan), command.replace)  # that came while it was waited
            _import(plan, imported, f"imported from {command.checkpoint}", bench)
    else:
        _train(plan, bench, there)
    return 0


def _refuse_another(plan: TeacherPlan, there: Teacher | None, replace: bool) -> None:
    require(
        there is None or replace,
        f"{plan.folder} holds another teacher of this protocol and seed; replace=true replaces it",
    )


def _say_who_takes(plan: TeacherPlan, console: Console) -> None:
    """By which settings runs take a teacher that they do not look for by themselves."""
    if settings := plan.taken_by():
        note(console, f"runs take this teacher with {settings}")


def _import(plan: TeacherPlan, teacher: Teacher, source: str, bench: Workbench) -> None:
    """Put a checkpoint's teacher into the store, once it has shown what is claimed for it."""
    check_images("teacher.root", plan.root, plan.data, bench.dataset)
    top1 = bench.measure(teacher, plan.train).top1
    network = teacher.load(bench.dataset.num_classes, bench.device)
    note_images(plan.root, plan.data, bench.dataset)
    stored = teachers.store(plan, network, top1, source, [])
    epochs = counted(plan.train.epochs, "epoch")
    bench.console.print(f"imported as a teacher of {epochs}, seed {plan.seed}: {stored.source}")


def _train(plan: TeacherPlan, bench: Workbench, replaced: Teacher | None) -> None:
    """Train the teacher, unless another process has by now; the one to be replaced leaves the store before."""
    bench.console.print(
        f"{plan.network} on {plan.data.name}: {bench.dataset.summary}, epochs: {plan.train.epochs}, "
        f"{plan.train.precision} on {device_name(plan.train)}, seed {plan.seed}"
    )
    spec = feature_spec(plan.network, data.INFO[plan.data.name])
    bench.rehearse("teacher", [plan.config], (spec, spec))
    if replaced:
        with bench.lock(plan):
            there = teachers.find(plan)
            if there and there.sha256 == replaced.sha256:
                Checkpoints(plan.folder).delete()  # what an earlier training left would be continued
                teachers.discard(plan)
    bench.measure(bench.train_teacher(plan), plan.train)


def _resolve(config: DictConfig, given: frozenset[str]) -> TeacherCommandConfig:
    """What was typed, every value of the protocol filled in.

    Raises:
        UserError: a value that cannot work.
    """
    protocol.fill_data(config)
    protocol.fill_train(config, _network(config))
    protocol.fill_store(config)
    command = OmegaConf.to_object(config)
    assert isinstance(command, TeacherCommandConfig)
    checks.check_bounds(command)
    checks.check_data(command.data)
    checks.check_train(command.train, given)
    require(
        command.train.optimizer == Optimizer.sgd,
        "train.optimizer=dot is for students: a teacher learns from no distillation",
    )
    check_path("teacher.root", command.teacher.root)
    check_path("checkpoint", command.checkpoint)
    return command


def _network(config: DictConfig) -> str:
    """The teacher's, filled in where it is a pair's."""
    named = not OmegaConf.is_missing(config, "network")
    if named == (config.pair is not None):
        raise UserError("name the teacher by network=… or by pair=…" + (", not both" if named else ""))
    if not named:
        protocol.fill_pair(config.pair)
        config.network = config.pair.teacher
    if config.network not in models.available():
        raise UserError(unknown("network", config.network, models.available()))
    return str(config.network)


def show(config: DictConfig, given: frozenset[str]) -> int:
    """List the store."""
    protocol.fill_store(config)
    check_path("teacher.root", config.teacher.root)
    root = Path(config.teacher.root)
    console, table = make_console(), make_table()
    for column in ("network", "data", "epochs", "seed", "top-1, %", "on", "sha256", "where"):
        table.add_column(column, overflow="fold")
    for path in sorted(root.glob(f"*/*/{CARD}")):
        try:
            card = teachers.read_card(path)
        except UserError as error:
            warn(console, str(error))
            continue
        table.add_row(
            card["network"],
            card["data"],
            str(card["protocol"]["epochs"]),
            str(card["seed"]),
            f"{card['top1']:.2f}",
            card["split"],
            card["sha256"][:12],
            f"{path.parent.name}, {card['source']}",
        )
    console.print(f"teachers in {root}: {table.row_count}")
    if table.row_count:
        console.print(table)
    return 0


COMMAND = Command(
    name="benchmarks.teacher",
    summary="train a teacher under the common protocol, import a published checkpoint, or list the store",
    examples=(
        "python -m benchmarks.teacher pair=vgg13_vgg8",
        "python -m benchmarks.teacher network=vgg13 checkpoint=save/models/vgg13_vanilla/ckpt_epoch_240.pth",
        "python -m benchmarks.teacher list",
    ),
    config=TeacherCommandConfig,
    groups=lambda: {"pair": groups.pairs(), "data": groups.data_sets()},
    defaults=groups.DEFAULTS,
    run=execute,
    verbs={"list": Verb(show, ("teacher.root", "output"))},
)

if __name__ == "__main__":
    sys.exit(main(COMMAND))
