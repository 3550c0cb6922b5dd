"""Resolution: from what was typed to one frozen configuration for each student that shows every value used."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks import data, models
from benchmarks.config import (
    KEPT,
    CheckpointConfig,
    DataConfig,
    Device,
    Mode,
    Optimizer,
    PairConfig,
    Precision,
    RunConfig,
    TrainConfig,
    Views,
)
from benchmarks.errors import UserError, first_line, require
from benchmarks.files import user_cache
from benchmarks.pairs import PAIRS
from benchmarks.training.compiling import has_gpu_compiler
from methods import FeatureSpec, InvalidSetting, MethodConfig, dead_settings, get, unknown
from methods.schedules import LossConfig, Schedule

MOST_THREADS = 1024  # beyond, a typing error is likelier than a machine

# Steps that spare the time that compiling takes: for two networks half a minute, and a third of a millisecond a
# step, on an H100. (For losses it was not measured there.)
REPAYING = 100_000

# Milestones of the full protocol, as parts of its epochs (CRD, ICLR 2020).
MILESTONES = (150 / 240, 180 / 240, 210 / 240)

Specs = tuple[FeatureSpec, FeatureSpec]  # of student and teacher


@dataclass(frozen=True)
class _WithMethod:
    method: MethodConfig

    @property
    def label(self) -> str:
        """Its name in tables: the variant's label, or the method."""
        return self.method.label or self.method.name

    @property
    def needs(self) -> frozenset[str]:
        """Parts of the networks' features that its method reads; none: it has no teacher."""
        return get(self.method.name).needs


@dataclass(frozen=True)
class StudentConfig(_WithMethod):
    """Everything that determines one student's training."""

    pair: PairConfig
    data: DataConfig
    seed: int
    train: TrainConfig
    loss: LossConfig


@dataclass(frozen=True)
class Variant(_WithMethod):
    """What one student is to be trained with, not yet resolved for the networks."""

    loss: LossConfig

    @property
    def schedule(self) -> Schedule:
        """Of its loss weights."""
        return Schedule(self.method.schedule) if self.loss.schedule == Schedule.default else self.loss.schedule

    def resolve(self, run: RunConfig, specs: Specs) -> StudentConfig:
        """The student's whole configuration, for the features of student and teacher.

        Raises:
            UserError: the method cannot serve the pair.
        """
        try:
            method = self.method.resolve(*specs)
            loss = self.loss.resolve(method)
        except InvalidSetting as error:
            raise UserError(f"method {self.method.name} on {run.pair.name}: {error}") from None
        return StudentConfig(method, run.pair, run.data, run.seed, run.train, loss)


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
    variants = _variants(config, run.loss, given)
    _check(run, variants, given)
    return run, variants


def _require_choice(config: DictConfig) -> None:
    if config.method is None and not config.methods:
        raise UserError("choose a method=… or methods=[…]; without arguments the command lists them")
    if config.method is not None and config.methods:
        raise UserError("give method=… or methods=[…], not both")
    if config.pair is None:
        raise UserError("choose a pair=…; without arguments the command lists them")
    for role in ("teacher", "student"):
        if OmegaConf.is_missing(config.pair, role):
            raise UserError(f"pair.{role}: name a network: {', '.join(models.available())}")
        name = config.pair[role]
        if name not in models.available():
            raise UserError(unknown(f"network in pair.{role}", name, models.available()))
    _name_pair(config.pair)


def _name_pair(pair: DictConfig) -> None:
    """A custom pair is called by its networks, a known one always by its name."""
    networks = (pair.teacher, pair.student)
    known = {pair: name for name, pair in PAIRS.items()}
    if pair.name == "custom":
        pair.name = known.get(networks, "_".join(networks).lower())
    require(
        PAIRS.get(pair.name, networks) == networks,
        f"pair={pair.name} cannot have other networks: pair=custom pair.teacher={pair.teacher} "
        f"pair.student={pair.student}",
    )


def _fill(config: DictConfig) -> None:
    """Write the protocol's values where nothing was said."""
    fill_data(config)
    if config.train.compile is None and config.teacher.views in KEPT:
        config.train.compile = False  # or they would be other views
    fill_train(config, config.pair.student)
    fill_store(config)
    _default(config.teacher, "epochs", min(config.train.epochs, data.INFO[config.data.name].epochs))
    if OmegaConf.is_missing(config.tracking, "mode"):
        config.tracking.mode = _mode()


def fill_data(config: DictConfig) -> None:
    """Where data sets are and where decoded images go."""
    _default(config.data, "root", os.environ.get("KD_DATA") or "data")
    _default(config.data, "cache", str(user_cache()))


def fill_train(config: DictConfig, network: str) -> None:
    """The common protocol of a network on the data set, on this machine."""
    train = config.train
    _default(train, "epochs", data.INFO[config.data.name].epochs)
    _default(train, "lr", default_lr(config.data.name, network))
    _default(train, "milestones", scaled_milestones(train.epochs))
    _default(train, "threads", torch.get_num_threads())
    train.device = _device(train.device)
    train.precision = _precision(train.precision, train.device)
    if train.compile is None:
        train.compile = pays_to_compile(train, data.INFO[config.data.name].num_train)


def default_lr(data_name: str, network: str) -> float:
    """Learning rate of the common protocol: the data set's, where it has one of its own, else the network's."""
    return data.INFO[data_name].lr or models.entry(network).lr


def fill_store(config: DictConfig) -> None:
    """Where teachers are kept."""
    _default(config.teacher, "root", str(Path(config.output) / "teachers"))


def _default(node: DictConfig, key: str, value: Any) -> None:
    if OmegaConf.is_missing(node, key):
        node[key] = value


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
    if device == Device.cuda:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return Precision.bf16 if native else Precision.fp32


def pays_to_compile(train: Any, num_data: int) -> bool:
    """Whether kernels can be compiled for a training on so many images, and spare the time that it takes."""
    steps = math.ceil(num_data / max(1, train.batch_size))
    steps = train.epochs * (steps if train.max_steps is None else min(steps, train.max_steps))
    allowed = train.device == Device.cuda and _forbids_compiling(train) is None
    return allowed and steps >= REPAYING and has_gpu_compiler()


def _forbids_compiling(train: Any) -> str | None:
    """Why this protocol cannot be computed by compiled kernels; None where it can."""
    if train.deterministic:
        return "of compiled kernels bit-identical results are not known; leave it out with train.deterministic=true"
    if train.optimizer == Optimizer.dot:
        return "train.optimizer=dot asks what each loss reaches, which compiled kernels do not tell"
    return None


def _mode() -> Mode:
    value = os.environ.get("WANDB_MODE") or "offline"
    if value not in set(Mode):
        raise UserError(f"WANDB_MODE={value}: one of {', '.join(Mode)}")
    return Mode(value)


def _variants(config: DictConfig, loss: LossConfig, given: frozenset[str]) -> list[Variant]:
    pair = config.pair.name
    if config.method is not None:
        keys = {key.removeprefix("method.") for key in given if key.startswith("method.")}
        return [Variant(_method_config(config.method, keys, "method.", pair), loss)]
    entries = OmegaConf.to_container(config.methods)
    assert isinstance(entries, list)
    return [_variant(entry, loss, pair) for entry in entries]


def _variant(entry: Any, loss: LossConfig, pair: str) -> Variant:
    settings = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
        raise UserError(f"methods: {entry} is neither a name nor a variant such as {{name: kd, temperature: 8}}")
    name, where = settings["name"], f"methods: {entry}: "
    own_loss = settings.get("loss", {})
    settings = {key: value for key, value in settings.items() if key != "loss"}
    node = merged(get(name).config_class, settings, f"setting of {name}", where)
    keys = set(settings) - {"name", "weights"} | {f"weights.{term}" for term in settings.get("weights", {})}
    variant = Variant(_method_config(node, keys, f"methods: {name}: ", pair), loss)
    return _with_loss(variant, own_loss, where) if own_loss else variant


def _with_loss(variant: Variant, settings: Any, where: str) -> Variant:
    """The variant with settings of its own for the loss schedule, beside those of the whole command."""
    require(isinstance(settings, dict), f"{where}loss={settings} must be a mapping such as {{schedule: cosine}}")
    loss = OmegaConf.to_object(merged(variant.loss, settings, "setting of loss", where))
    assert isinstance(loss, LossConfig)
    variant = dataclasses.replace(variant, loss=loss)
    own = {name: getattr(loss, name) for name in settings}
    _refuse_dead(LossConfig(**own | {"schedule": variant.schedule}), set(settings), f"{where}loss.")
    return variant


def merged(base: Any, settings: dict[Any, Any], kind: str, where: str) -> Any:
    """Settings on top of a configuration, as a node; refuses what it does not have or cannot be.

    Args:
        base: a configuration dataclass, an object of one, or a node made of one.
        settings: by field.
        kind: what a field is called, for messages.
        where: in front of messages.
    """
    node = base if OmegaConf.is_config(base) else OmegaConf.structured(base)
    valid = list(map(str, node))
    for key in settings:
        require(key in valid, where + unknown(kind, str(key), valid))
    try:
        return OmegaConf.merge(node, settings)
    except OmegaConfBaseException as error:
        raise UserError(f"{where}{first_line(error)}") from None


def _method_config(node: Any, given: set[str], where: str, pair: str) -> MethodConfig:
    config = OmegaConf.to_object(node)
    assert isinstance(config, MethodConfig)
    _refuse_dead(config, {key.split(".")[0] for key in given}, where)
    return config.for_pair(pair, given)


def _refuse_dead(config: Any, given: set[str], where: str) -> None:
    if complaints := dead_settings(config, given):
        raise UserError("\n".join(where + complaint for complaint in complaints))


def _check(run: RunConfig, variants: list[Variant], given: frozenset[str]) -> None:
    labels = [variant.label for variant in variants]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"methods: two are called '{label}'; give variants a label")
    check_numbers(plain(run))
    for variant in variants:
        check_numbers(plain(variant.method), "method")
    check_train(run.train)
    _refuse_dead(run.train, {key.split(".")[1] for key in given if key.startswith("train.")}, "train.")
    if run.train.optimizer == Optimizer.dot:
        _check_dot(run.train, variants)
    check_data(run.data)
    check_checkpoint(run.checkpoint)
    check_seed("seed", run.seed)
    check_seed("teacher.seed", run.teacher.seed)
    check_path("output", run.output)
    check_path("teacher.root", run.teacher.root)
    check_path("teacher.checkpoint", run.teacher.checkpoint)
    _check_views(run, variants)
    _check_project(run.tracking.project)
    require(run.teacher.epochs >= 1, f"teacher.epochs={run.teacher.epochs} must be at least 1")
    _check_loss(run.loss, variants, {key.split(".")[1] for key in given if key.startswith("loss.")})


def check_numbers(content: Any, key: str = "") -> None:
    """Refuse numbers that nothing can be computed with, anywhere in a plain configuration."""
    if isinstance(content, dict):
        for name, value in content.items():
            check_numbers(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            check_numbers(value, key)
    elif isinstance(content, float):
        require(math.isfinite(content), f"{key}={content} must be a finite number")
    elif isinstance(content, int):
        require(abs(content) < 2**63, f"{key}={content} has more than 63 bits")


def check_seed(key: str, seed: int) -> None:
    """Refuse what is no number of a seed."""
    require(seed >= 0, f"{key}={seed} must be at least 0")


def check_path(key: str, path: str | None) -> None:
    """Refuse a path that the system cannot look at: too long, or closed to this user."""
    try:
        if path is not None:
            (Path(path) / "-").exists()
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}") from None


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
    """Refuse a validation split that cannot be."""
    require(0 <= config.validation < 1, f"data.validation={config.validation} must be in [0, 1)")
    check_path("data.root", config.root)
    check_path("data.cache", config.cache)


def check_checkpoint(checkpoint: CheckpointConfig) -> None:
    """Refuse a number of steps that never comes."""
    every = checkpoint.every_steps
    require(every is None or every >= 1, f"checkpoint.every_steps={every} must be at least 1")


def check_train(train: TrainConfig) -> None:
    """Refuse protocol values that cannot work."""
    for name in ("epochs", "batch_size", "threads"):
        value = getattr(train, name)
        require(value >= 1, f"train.{name}={value} must be at least 1")
    forbidden = _forbids_compiling(train)
    require(not (train.compile and forbidden), f"train.compile=true: {forbidden}")
    require(train.threads <= MOST_THREADS, f"train.threads={train.threads} must be at most {MOST_THREADS}")
    require(
        train.max_steps is None or train.max_steps >= 1,
        f"train.max_steps={train.max_steps} must be at least 1",
    )
    require(0 < train.lr < math.inf, f"train.lr={train.lr} must be a finite number above 0")
    require(0 <= train.momentum < 1, f"train.momentum={train.momentum} must be in [0, 1)")
    require(0 <= train.weight_decay < math.inf, f"train.weight_decay={train.weight_decay} must be at least 0")
    _refuse_dead(train, set(), "train.")
    require(0 < train.decay <= 1, f"train.decay={train.decay} must be in (0, 1]")
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


def plain(config: Any) -> Any:
    """A configuration as JSON-able mappings, lists and values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value) for value in config]
    return str(config) if isinstance(config, str) else config
