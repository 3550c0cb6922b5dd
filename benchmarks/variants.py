"""What one student is to be trained with: a method and its loss schedule, as typed and as resolved."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.cli import check_lists
from benchmarks.config import DataConfig, PairConfig, RunConfig, TrainConfig
from benchmarks.errors import UserError, first_line, require
from methods import FeatureSpec, InvalidSetting, MethodConfig, dead_settings, get, unknown
from methods.schedules import LossConfig, Schedule

Specs = tuple[FeatureSpec, FeatureSpec]  # of student and teacher


@dataclass(frozen=True)
class _WithMethod:
    method: MethodConfig

    @property
    def label(self) -> str:
        """Its name in tables: the variant's label, or the method."""
        return self.method.label or self.method.name

    @property
    def has_teacher(self) -> bool:
        """Whether its method reads anything of a teacher, in the main training or before it."""
        return bool(get(self.method.name).needs)

    @property
    def needs(self) -> frozenset[str]:
        """Parts of the networks' features that its method reads in the main training."""
        return get(self.method.name).needs_of(self.method)


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
        """The schedule of its loss weights."""
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


def read_variants(config: DictConfig, loss: LossConfig, given: frozenset[str]) -> list[Variant]:
    """The variants of `method=` or `methods=[…]`.

    Args:
        config: composed, with a pair and one of the two.
        loss: the whole command's schedule of loss weights.
        given: keys that the user set.

    Raises:
        UserError: a setting that is none, or cannot act.
    """
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
    return _with_loss(variant, own_loss, where)


def _with_loss(variant: Variant, settings: Any, where: str) -> Variant:
    """The variant with settings of its own for the loss schedule, beside those of the whole command."""
    require(isinstance(settings, dict), f"{where}loss={settings} must be a mapping such as {{schedule: cosine}}")
    loss = OmegaConf.to_object(merged(variant.loss, settings, "setting of loss", where))
    assert isinstance(loss, LossConfig)
    variant = dataclasses.replace(variant, loss=loss)
    own = {name: getattr(loss, name) for name in settings}
    refuse_dead(LossConfig(**own | {"schedule": variant.schedule}), set(settings), f"{where}loss.")
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
        node = OmegaConf.merge(node, settings)
        assert isinstance(node, DictConfig)
        check_lists(node)
        return node
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"{where}{first_line(error)}") from None


def _method_config(node: Any, given: set[str], where: str, pair: str) -> MethodConfig:
    config = OmegaConf.to_object(node)
    assert isinstance(config, MethodConfig)
    refuse_dead(config, {key.split(".")[0] for key in given}, where)
    return config.for_pair(pair, given)


def refuse_dead(config: Any, given: Collection[str], where: str) -> None:
    """Refuse settings that were given and cannot act beside the others."""
    if complaints := dead_settings(config, given):
        raise UserError("\n".join(where + complaint for complaint in complaints))
