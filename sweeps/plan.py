"""From what was typed to a study: what is searched, on which pair, under which budget."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from benchmarks import data, protocol
from benchmarks.cli import thawed
from benchmarks.config import RunConfig, plain
from benchmarks.errors import require
from benchmarks.identity import file_name, identity
from benchmarks.later import with_later
from benchmarks.overrides import as_overrides
from benchmarks.training.build import specs_of
from benchmarks.variants import Variant
from methods import configure
from sweeps.config import Pruner, SearchConfig
from sweeps.draft import Base, Draft, Pick, Point
from sweeps.spaces import Space

VALIDATION = 0.1  # of the training set, where nothing is said
TRIALS = 50
LEAST_BUDGET = 3  # epochs, where nothing is said
MOST_IN_COHORT = 4  # more, and those asked together know too little of each other
LEAST_SEEDS = 4  # below, Wilcoxon's test cannot reach the pruner's 0.1
# What a study's configuration has in common with a run's
OF_A_RUN = ("method", "pair", "data", "train", "loss", "teacher", "checkpoint", "tracking", "output")


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        name: of the study in its storage, and of its folder.
        space: what is searched.
        base: what it starts from; its run is that of the trials, with the first of their seeds.
        search: how it is searched.
        points: what is tried first: the defaults, or all of a grid.
    """

    name: str
    space: Space
    base: Base
    search: SearchConfig
    points: list[Point]

    @property
    def run(self) -> RunConfig:
        """The trials' configuration, with the first of their seeds."""
        return self.base.run

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return Path(self.run.output)

    @property
    def pruner(self) -> Pruner:
        """The pruner, the default resolved."""
        if self.search.pruner != Pruner.default:
            return self.search.pruner
        return Pruner.none if self.space.grid else Pruner.hyperband

    @property
    def fresh_seeds(self) -> list[int]:
        """Seeds that no trial has seen."""
        first = max(self.search.seeds) + 1
        return list(range(first, first + self.search.confirm))

    def draft(self, pick: Pick) -> Draft:
        """A variant by what `pick` decides."""
        return self.space.draft(self.base, pick)

    def settings(self) -> dict[str, Any]:
        """What all who join the study must agree on: it decides what a score means."""
        base = self.base.resolve(self.base.variant)
        anywhere = ("threads", "device", "compile")
        return {
            "space": self.space.name,
            "grid": self.space.grid,
            "method": plain(base.method),
            "loss": plain(base.loss),
            "pair": plain(self.run.pair),
            "data": identity(self.run.data),
            "train": {key: value for key, value in identity(self.run.train).items() if key not in anywhere},
            "teacher": {"epochs": self.run.teacher.epochs, "seed": self.run.teacher.seed},
            "seeds": self.search.seeds,
            "pruner": plain(self.pruner),
        }


def disagreements(begun: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """What a study was begun with that is otherwise in `ours`, in words of the command line."""
    return sorted(set(as_overrides(with_later(begun))) - set(as_overrides(with_later(ours))))


def prepare(config: DictConfig, given: frozenset[str], space: Space, name: str | None) -> Plan:
    """The plan of a study.

    Args:
        config: composed, of a `SearchConfig` with `method` and `loss`; missing values are filled in place.
        given: keys that the user set.
        space: what is searched.
        name: of the study; None: made of what it is.

    Raises:
        UserError: a value that cannot work, naming its key.
    """
    _choose_method(config, space)
    _check_search(config, given)
    _fill(config, given)
    run, variant = _resolve_run(config, given)
    name = name or _name(space, run, variant)
    specs = specs_of(run.pair, data.INFO[run.data.name])
    base = Base(variant, _placed(run, name), specs)
    points = space.first_points(base)
    require(any(points), f"space={space.name} has nothing to search in method={variant.label} as it is set")
    if space.grid:
        _refuse_overridden(space, points, given)
    if OmegaConf.is_missing(config, "trials"):
        config.trials = len(points) if space.grid else TRIALS
    search = OmegaConf.to_object(config)
    assert isinstance(search, SearchConfig)
    return Plan(name, space, base, search, points)


def _refuse_overridden(space: Space, points: list[Point], given: frozenset[str]) -> None:
    """Refuse settings of what a grid goes through: there is no start that they could be."""
    names = {name for point in points for name in point}
    for key in sorted(given):
        require(
            key.removeprefix("method.") not in names,
            f"{key} has no effect: space={space.name} tries all of its values; leave it out",
        )


def fill_storage(config: DictConfig) -> None:
    """Where studies are, where nothing was said."""
    if OmegaConf.is_missing(config, "storage"):
        config.storage = default_storage(config.output)


def default_storage(output: str) -> str:
    """The storage in a folder for studies."""
    return f"sqlite:///{output}/studies.db"


def _choose_method(config: DictConfig, space: Space) -> None:
    if config.method is None:
        config.method = OmegaConf.structured(configure(space.method or "aftkd"))
    require(
        space.method in (None, config.method.name),
        f"space={space.name} is of method={space.method}, not of method={config.method.name}",
    )


def _check_search(config: DictConfig, given: frozenset[str]) -> None:
    """Refuse what would be no honest or no possible search."""
    for key in ("trials", "budget", "workers"):
        value = None if OmegaConf.is_missing(config, key) else config[key]
        require(value is None or value >= 1, f"{key}={value} must be at least 1")
    require(1 <= config.cohort <= MOST_IN_COHORT, f"cohort={config.cohort} must be 1 to {MOST_IN_COHORT}")
    require(config.heartbeat > 0, f"heartbeat={config.heartbeat} must be above 0")
    require(config.confirm >= 0, f"confirm={config.confirm} must be at least 0")
    seeds = list(config.seeds)
    require(
        bool(seeds) and len(set(seeds)) == len(seeds), f"seeds={seeds} must be one or more seeds, all different"
    )
    for seed in seeds:
        require(seed >= 0, f"seeds={seed} must be at least 0")
    require(
        config.pruner != Pruner.wilcoxon or len(seeds) >= LEAST_SEEDS,
        f"pruner=wilcoxon compares over seeds and cannot decide from fewer than {LEAST_SEEDS}; seeds={seeds}",
    )
    require("train.epochs" not in given, "train.epochs: set the epochs of a trial by budget=…")
    require(
        "data.validation" not in given or config.data.validation > 0,
        f"data.validation={config.data.validation}: trials are scored on held-out training images, never on the "
        "test set; set a part above 0, such as 0.1",
    )
    require(
        config.teacher.checkpoint is None,
        "teacher.checkpoint: a study's teacher has seen the train part alone, so that it is trained here; one that "
        "was trained so elsewhere is put into the store by\n  python -m benchmarks.teacher network=… checkpoint=… "
        "data.validation=… teacher.root=…",
    )


def _fill(config: DictConfig, given: frozenset[str]) -> None:
    """A study's own defaults, where nothing was said."""
    fill_storage(config)
    protocol.fill_store(config)
    epochs = data.INFO[config.data.name].epochs
    if OmegaConf.is_missing(config, "budget"):
        config.budget = max(LEAST_BUDGET, epochs // 8)
    config.train.epochs = config.budget
    if "data.validation" not in given:
        config.data.validation = VALIDATION
    if OmegaConf.is_missing(config.teacher, "epochs"):
        config.teacher.epochs = epochs  # trials are short, what they learn from is not
    protocol.fill_threads(config.train, config.workers)


def _resolve_run(config: DictConfig, given: frozenset[str]) -> tuple[RunConfig, Variant]:
    """The trials' run and what they have in common, every value filled in, in `config` too."""
    node = thawed(OmegaConf.structured(RunConfig))
    for key in OF_A_RUN:
        node[key] = config[key]
    node.seed = config.seeds[0]
    run, (variant,) = protocol.resolve(node, given)
    for key in OF_A_RUN:
        config[key] = node[key]
    return run, variant


def _name(space: Space, run: RunConfig, variant: Variant) -> str:
    method = [] if variant.method.name in (space.name, space.method) else [variant.method.name]
    return "-".join([space.name, *method, run.pair.name, run.data.name, f"{run.train.epochs}ep"])


def _placed(run: RunConfig, name: str) -> RunConfig:
    """The run in the study's folder and group."""
    tracking = dataclasses.replace(run.tracking, group=run.tracking.group or name)
    return dataclasses.replace(run, output=str(Path(run.output) / file_name(name)), tracking=tracking)
