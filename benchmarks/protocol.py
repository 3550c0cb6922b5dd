"""Resolution: from what was typed to one frozen configuration for each student that shows every value used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks import data, models
from benchmarks.checks import check, forbids_compiling
from benchmarks.config import KEPT, Device, LrSchedule, Mode, Precision, RunConfig
from benchmarks.errors import UserError, require
from benchmarks.files import user_cache
from benchmarks.pairs import PAIRS
from benchmarks.training.compiling import has_gpu_compiler
from benchmarks.training.device import has_bf16
from benchmarks.variants import Variant, read_variants
from methods import unknown

# Steps that spare the time that compiling takes: for two networks, on an H100, half a minute, and kd's step became
# 0.43 ms shorter. (What losses spare was not measured.)
REPAYING = 100_000

BESIDE_GPU = 4  # threads on the CPU

# Milestones of the full protocol, as parts of its epochs (CRD, ICLR 2020).
MILESTONES = (150 / 240, 180 / 240, 210 / 240)


def resolve(config: DictConfig, given: frozenset[str]) -> tuple[RunConfig, list[Variant]]:
    """Fill in protocol values and check everything that needs no network.

    Args:
        config: composed; missing values are filled in place.
        given: keys that the user set.

    Returns:
        the frozen configuration, and what each student is to be trained with.

    Raises:
        UserError: a value that cannot work, naming its key.
    """
    _require_choice(config)
    _fill(config)
    run = OmegaConf.to_object(config)
    assert isinstance(run, RunConfig)
    variants = read_variants(config, run.loss, given)
    check(run, variants, given)
    return run, variants


def _require_choice(config: DictConfig) -> None:
    if config.method is None and not config.methods:
        raise UserError("choose a method=… or methods=[…]; without arguments the command lists them")
    if config.method is not None and config.methods:
        raise UserError("give method=… or methods=[…], not both")
    if config.pair is None:
        raise UserError("choose a pair=…; without arguments the command lists them")


def _fill(config: DictConfig) -> None:
    """Write the protocol's values where nothing was said."""
    fill_pair(config.pair)
    fill_data(config)
    if config.train.compile is None and config.teacher.views in KEPT:
        config.train.compile = False  # or they would be other views
    fill_train(config, config.pair.student)
    fill_store(config)
    _default(config.teacher, "epochs", min(config.train.epochs, data.INFO[config.data.name].epochs))
    if OmegaConf.is_missing(config.tracking, "mode"):
        config.tracking.mode = _mode()


def fill_pair(pair: DictConfig) -> None:
    """What a pair is called, once both networks are known: a custom one by them, a known one always by its name."""
    for role in ("teacher", "student"):
        if OmegaConf.is_missing(pair, role):
            raise UserError(f"pair.{role}: name a network: {', '.join(models.available())}")
        if pair[role] not in models.available():
            raise UserError(unknown(f"network in pair.{role}", pair[role], models.available()))
    networks = (pair.teacher, pair.student)
    known = {pair: name for name, pair in PAIRS.items()}
    if pair.name == "custom":
        pair.name = known.get(networks, "_".join(networks).lower())
    require(
        PAIRS.get(pair.name, networks) == networks,
        f"pair={pair.name} names both networks; for others: pair=custom pair.teacher={pair.teacher} "
        f"pair.student={pair.student}",
    )


def fill_data(config: DictConfig) -> None:
    """Where data sets are and where decoded images go."""
    _default(config.data, "root", os.environ.get("KD_DATA") or "data")
    _default(config.data, "cache", str(user_cache()))


def fill_train(config: DictConfig, network: str) -> None:
    """The common protocol of a network on the data set, on this machine."""
    train = config.train
    _default(train, "epochs", data.INFO[config.data.name].epochs)
    _default(train, "lr", default_lr(config.data.name, network))
    _default(train, "milestones", default_milestones(train))
    fill_threads(train)
    train.device = _device(train.device)
    train.precision = _precision(train.precision, train.device)
    if train.compile is None:
        train.compile = pays_to_compile(train, data.INFO[config.data.name].num_train)


def fill_threads(train: DictConfig, workers: int = 1) -> None:
    """The number of threads, which is part of what a run is.

    On a CPU they are torch's, divided among `workers`; beside a GPU, which computes, as many on every machine, so
    that a run goes on wherever there is one.
    """
    on_cpu = _device(train.device) == Device.cpu
    _default(train, "threads", max(1, torch.get_num_threads() // workers) if on_cpu else BESIDE_GPU)


def default_lr(data_name: str, network: str) -> float:
    """Learning rate of the common protocol: the data set's, where it has one of its own, else the network's."""
    return data.INFO[data_name].lr or models.entry(network).lr


def fill_store(config: DictConfig) -> None:
    """Where teachers are kept."""
    _default(config.teacher, "root", str(Path(config.output) / "teachers"))


def _default(node: DictConfig, key: str, value: Any) -> None:
    if OmegaConf.is_missing(node, key):
        node[key] = value


def default_milestones(train: Any) -> list[int]:
    """Those of the common protocol; none under a schedule that has no use for them."""
    return scaled_milestones(train.epochs) if train.schedule == LrSchedule.step else []


def scaled_milestones(epochs: int) -> list[int]:
    """150, 180 and 210 of 240 for another number of epochs, those that fall together taken as one."""
    scaled = {round(part * epochs) for part in MILESTONES}
    return sorted(milestone for milestone in scaled if 0 < milestone < epochs)


def _device(device: Device) -> Device:
    if device == Device.auto:
        return Device.cuda if torch.cuda.is_available() else Device.cpu
    if device == Device.cuda and not torch.cuda.is_available():
        raise UserError("train.device=cuda: torch sees no CUDA device here; train.device=auto takes the CPU")
    return device


def _precision(precision: Precision, device: Device) -> Precision:
    if precision != Precision.auto:
        return precision
    return Precision.bf16 if has_bf16(torch.device(device)) else Precision.fp32


def pays_to_compile(train: Any, num_data: int) -> bool:
    """Whether kernels can be compiled for a training on so many images, and spare the time that it takes."""
    steps = train.epochs * data.steps_per_epoch(num_data, max(1, train.batch_size), train.max_steps)
    allowed = train.device == Device.cuda and forbids_compiling(train) is None
    return allowed and steps >= REPAYING and has_gpu_compiler()


def _mode() -> Mode:
    value = os.environ.get("WANDB_MODE") or "offline"
    if value not in set(Mode):
        raise UserError(f"WANDB_MODE={value}: one of {', '.join(Mode)}")
    return Mode(value)
