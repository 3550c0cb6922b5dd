"""From what was typed to cohorts: the students of one pair and seed, and what each is trained with."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from benchmarks import data, protocol
from benchmarks.cli import thawed
from benchmarks.config import PairConfig, RunConfig
from benchmarks.errors import UserError, require
from benchmarks.pairs import PAIRS
from benchmarks.suite.config import ALL, SHARED
from benchmarks.training.build import specs_of
from benchmarks.variants import StudentConfig, Variant, merged
from methods import available, unknown

OF_A_PAIR = ("name", "teacher", "student", "seeds", "train")


@dataclass(frozen=True)
class GridCohort:
    """Students of one pair and seed.

    Attributes:
        run: as `benchmarks.run` would have it.
        variants: what each student is trained with.
        impossible: why a method cannot serve the pair, by label.
    """

    run: RunConfig
    variants: tuple[Variant, ...]
    impossible: dict[str, str]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.run.pair.name} seed {self.run.seed}"

    def students(self) -> list[StudentConfig]:
        """The students, resolved for the networks."""
        return [_resolved(variant, self.run) for variant in self.variants]


def _resolved(variant: Variant, run: RunConfig) -> StudentConfig:
    return variant.resolve(run, specs_of(run.pair, data.INFO[run.data.name]))


def cohorts(config: DictConfig, given: frozenset[str]) -> list[GridCohort]:
    """All cohorts of a grid, in the order of its pairs and seeds.

    Args:
        config: of the suite command, composed.
        given: keys that the user set.

    Raises:
        UserError: a value that cannot work, or a method that fits none of the pairs.
    """
    methods = _entries(config, "methods", available())
    for key in ("teacher.seed", "teacher.checkpoint"):
        clash = (
            f"{key} names one teacher for all seeds, own_teachers=true wants one for each: leave one of them out"
        )
        require(not (config.own_teachers and key in given), clash)
    found = []
    for entry in _entries(config, "pairs", tuple(PAIRS)):
        found += _of_pair(config, entry, methods, given)
    _refuse_twins(found)
    if ALL not in config.methods:
        _refuse_unfit(found)
    return found


def _entries(config: DictConfig, key: str, everything: Sequence[str]) -> list[Any]:
    """A list's entries, with `all` in the place of everything that is not there by itself."""
    entries = OmegaConf.to_container(config[key])
    assert isinstance(entries, list)
    require(bool(entries), f"choose {key}=[…], or a grid by suite=…; without arguments the command lists them")
    others = [name for name in everything if name not in entries]
    return [each for entry in entries for each in (others if entry == ALL else [entry])]


def _of_pair(config: DictConfig, entry: Any, methods: list[Any], given: frozenset[str]) -> list[GridCohort]:
    """A pair's cohorts, one for each seed."""
    settings = {"name": entry} if isinstance(entry, str) else entry
    hint = "neither a name nor networks such as {teacher: resnet20, student: resnet8}"
    require(isinstance(settings, dict), f"pairs: {entry} is {hint}")
    for key in settings:
        require(key in OF_A_PAIR, f"pairs: {entry}: " + unknown("key", str(key), OF_A_PAIR))
    run, variants = protocol.resolve(_run_config(config, settings, methods), given)
    possible, impossible = _fitting(variants, run)
    seeds = settings.get("seeds", list(config.seeds))
    require(
        isinstance(seeds, list) and bool(seeds) and all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds),
        f"pairs: {entry}: seeds={seeds} must be a list of integers of at least 0",
    )
    runs = (_of_seed(run, seed, config.own_teachers) for seed in seeds)
    return [GridCohort(each, tuple(possible), impossible) for each in runs]


def _of_seed(run: RunConfig, seed: int, own_teacher: bool) -> RunConfig:
    teacher = dataclasses.replace(run.teacher, seed=seed) if own_teacher else run.teacher
    return dataclasses.replace(run, seed=seed, teacher=teacher)


def _run_config(config: DictConfig, settings: dict[str, Any], methods: list[Any]) -> DictConfig:
    """What `benchmarks.run` would be told for a pair."""
    run = thawed(OmegaConf.structured(RunConfig))
    for key in SHARED:
        run[key] = config[key]
    where = f"pairs: {settings}: "
    training = settings.get("train", {})
    require(isinstance(training, dict), f"{where}train={training} must be a mapping such as {{epochs: 1}}")
    run.train = merged(run.train, training, "setting of train", where)
    run.pair = thawed(OmegaConf.structured(_pair(settings, where)))
    run.methods = methods
    return run


def _pair(settings: dict[str, Any], where: str) -> PairConfig:
    networks = {role: str(settings[role]) for role in ("teacher", "student") if role in settings}
    name = str(settings.get("name", "custom"))
    if name == "custom":
        require(len(networks) == 2, f"{where}name both networks: {{teacher: …, student: …}}")
        return PairConfig(**networks)
    others = "\n  any two networks: {teacher: NAME, student: NAME}"
    require(name in PAIRS, "pairs: " + unknown("pair", name, [*PAIRS, ALL]) + others)
    require(not networks, f"{where}{name} has its networks; for others leave the name out")
    return PairConfig(name, *PAIRS[name])


def _fitting(variants: list[Variant], run: RunConfig) -> tuple[list[Variant], dict[str, str]]:
    """The variants that can serve a pair, and by label why the others cannot."""
    possible, impossible = [], {}
    for variant in variants:
        try:
            _resolved(variant, run)
            possible.append(variant)
        except UserError as error:
            impossible[variant.label] = str(error)
    return possible, impossible


def _refuse_twins(found: Sequence[GridCohort]) -> None:
    """A pair and a seed name a cohort, so there is one of each."""
    for name, times in Counter(cohort.name for cohort in found).items():
        require(times == 1, f"pairs, seeds: {name} is there {times} times")


def _refuse_unfit(found: Sequence[GridCohort]) -> None:
    """A method that can serve no pair at all was typed by mistake; one that cannot serve some is left out there."""
    everywhere = set.intersection(*(set(cohort.impossible) for cohort in found))
    require(not everywhere, "\n".join(found[0].impossible[label] for label in sorted(everywhere)))
