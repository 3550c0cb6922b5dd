"""Configuration of methods: one dataclass a method, whose fields carry meaning, source and search range."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar

from methods.features import FeatureSpec

T = TypeVar("T", covariant=True)
ALONE = "none"  # the method that is the student alone
FLOAT32 = (2 - 2**-23) * 2.0**127  # the largest number in which losses and steps are computed


class InvalidSetting(ValueError):
    """A configuration that cannot work; the message names the value and what would do."""


class BrokenMethod(Exception):
    """A method's file cannot be imported; the message names file, line and error."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> str:
    """The message for an unknown name: the closest valid ones first, then all."""
    valid = list(valid)
    close = difflib.get_close_matches(name.lower(), valid, n=3, cutoff=0.5)
    guess = f"\n  closest: {', '.join(close)}" if close else ""
    return f"unknown {kind} '{name}'{guess}\n  valid: {', '.join(valid)}"


@dataclass(frozen=True)
class Search:
    """Where a study may look for a field's value: an interval `low` to `high`, or `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def has(self, value: Any) -> bool:
        """Whether a study may try a value."""
        if self.choices:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return "{" + ", ".join(str(choice) for choice in self.choices) + "}"
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "")


@dataclass(frozen=True)
class SearchEach:
    """Where to look for a list's entries, which the networks' shapes decide.

    Attributes:
        of: from the resolved configuration and the shapes of student and teacher, a range for each entry.
    """

    of: Callable[[Any, FeatureSpec, FeatureSpec], list[Search]]

    def __str__(self) -> str:
        return "each entry, by the networks' shapes"


def option(
    default: Any,
    help: str,
    *,
    source: str = "",
    search: Search | SearchEach | Mapping[str, Search] | None = None,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    live: Callable[[Any], bool] | None = None,
    live_when: str = "",
    identity: bool = True,
    later: bool = False,
) -> Any:
    """A dataclass field that documents itself.

    Args:
        default: its value; a list or dict is copied for each object, a callable makes the value.
        help: its meaning in one line, with the unit.
        source: where the default comes from (paper and table, or whose code).
        search: range for studies; of a dict such as the weights, by the keys that a study may change.
        above, least, below, most: bounds of a number or of each in a list, without and with the bound itself
            (`check_numbers`).
        live: tells from the configuration whether the field can act at all; setting a dead one is an error.
        live_when: the same in words, for the message.
        identity: whether the field can change a run's result and so belongs to its identity.
        later: whether it came after runs without it, which were what its default makes of them: with that it is no
            part of their identity, so that they keep theirs. `benchmarks/later.py` lists it for readers of logs.
    """
    metadata = {
        "help": help,
        "source": source,
        "search": search,
        "bounds": {"above": above, "least": least, "below": below, "most": most},
        "live": live,
        "live_when": live_when,
        "identity": identity,
        "later": later,
    }
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def acts_with(*terms: str, also: Callable[[Any], bool] = lambda config: True, when: str = "") -> Any:
    """Arguments of `option` for a field that acts only while a loss term has weight.

    Args:
        terms: one of them suffices.
        also: a further condition on the configuration.
        when: that condition in words.
    """
    weights = " or ".join(f"weights.{term}" for term in terms)
    return {
        "live": lambda config: not set(terms).isdisjoint(config.terms) and also(config),
        "live_when": f"with {weights} above 0" + (f" and {when}" if when else ""),
    }


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value a field takes when nothing is said; `None` for one without default."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def coerce_types(config: Any) -> None:
    """Give fields the types of their defaults: 1 becomes 1.0, a choice's name the choice.

    So equal configurations are equal, whether they were typed, read or made in Python.

    Raises:
        InvalidSetting: no such choice; the message lists them. Or a value of another type.
    """
    for field in dataclasses.fields(config):
        value = _coerced(field.name, getattr(config, field.name), default_of(field))
        object.__setattr__(config, field.name, value)  # the configuration is frozen


def _coerced(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, StrEnum) and not isinstance(value, type(default)):
        require(value in set(type(default)), f"{name}={value} is none of {', '.join(type(default))}")
        return type(default)(value)
    if isinstance(default, list):
        require(isinstance(value, list | tuple), f"{name}={value}: a list is expected, as {[value]}")
        return list(value)
    if isinstance(default, bool):
        require(isinstance(value, bool), f"{name}={value}: true or false is expected")
    elif isinstance(default, int):
        require(type(value) is int, f"{name}={value}: a whole number is expected")
    elif isinstance(default, float):
        require(type(value) in (int, float), f"{name}={value}: a number is expected")
        return float(value)
    elif isinstance(default, dict):
        require(isinstance(value, dict), f"{name}={value}: a mapping is expected, as {default}")
        of = next(iter(default.values()), None)
        return {key: _coerced(f"{name}.{key}", entry, of) for key, entry in value.items()}
    return value


def check_numbers(config: Any, prefix: str = "") -> None:
    """Refuse numbers that float32 does not hold, or beyond the bounds that `option` has for their fields.

    Args:
        config: a configuration dataclass whose fields were made by `option`; those within it are checked, too.
        prefix: of the fields' names in messages.

    Raises:
        InvalidSetting: naming field, value and bound.
    """
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{key}.")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float):
                check_number(key, number, **field.metadata["bounds"])


def check_number(
    key: str,
    number: float,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Refuse a number that float32 does not hold, or beyond its bounds; arguments as of `option`."""
    require(abs(number) < math.inf, f"{key}={number} must be a finite number")
    require(abs(number) <= FLOAT32, f"{key}={number} must be at most {FLOAT32:.3g}, what float32 holds")
    fits = above < number < below and least <= number <= most
    require(fits, f"{key}={number} must be {_limits(above, least, below, most)}")


def _limits(above: float, least: float, below: float, most: float) -> str:
    """Bounds in words, as "at least 1" or "in [0, 1)"."""
    low, high = max(above, least), min(below, most)
    if math.isfinite(low) and math.isfinite(high):
        return f"in {'[' if low == least else '('}{low:g}, {high:g}{']' if high == most else ')'}"
    bounds = {"above": above, "at least": least, "below": below, "at most": most}
    return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))


def acts(config: Any, name: str) -> bool:
    """Whether a field made by `option` can act under this configuration."""
    live = config.__dataclass_fields__[name].metadata.get("live")
    return live is None or live(config)


def dead_settings(config: Any, given: Iterable[str] = ()) -> list[str]:
    """Complaints about fields that were set although they cannot act under this configuration.

    Args:
        config: a configuration dataclass whose fields were made by `option`.
        given: names of the fields that the user set; one that differs from its default counts as set anyway, but
            for an empty list, which is what a dead one is filled in with.
    """
    given = set(given)
    complaints = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        was_set = field.name in given or value not in (default_of(field), [])
        if was_set and not acts(config, field.name):
            complaints.append(f"{field.name}={value} has no effect: it acts only {field.metadata['live_when']}")
    return complaints


@dataclass(frozen=True)
class MethodConfig:
    """What every method can be told. Subclasses add their hyper-parameters and set `weights`."""

    #: Schedule of the loss weights when `loss.schedule=default`.
    schedule: ClassVar[str] = "fixed"
    #: Part of the training over which the distillation terms warm up unless `loss.warm_up` says otherwise.
    warm_up: ClassVar[float] = 0.0
    #: Settings that the paper chose pair by pair, as `{pair: {"weights.kd": 1.0}}`: they stand between the
    #: defaults and what the user sets. Only who knows a pair's name can apply them: see `for_pair`.
    by_pair: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: The same for a variant, whose settings count instead while a field has a value: `{(field, value): by_pair}`,
    #: where the pair "" is any that has no settings of its own.
    by_pair_with: ClassVar[Mapping[tuple[str, Any], Mapping[str, Mapping[str, Any]]]] = {}
    #: Terms that compare what both networks say of each class, which they must then both know.
    soft_terms: ClassVar[tuple[str, ...]] = ()

    name: str = option("???", "the method")
    label: str = option("", "name of this variant in tables; part of the run's identity")
    weights: dict[str, float] = option({"ce": 1.0}, "weight of each loss term; 0 switches a term off")

    def __post_init__(self) -> None:
        coerce_types(self)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms with weight, `ce` (the harness's own) included."""
        return tuple(term for term, weight in self.weights.items() if weight > 0)

    def for_pair(self, pair: str, given: Collection[str]) -> Self:
        """With the paper's settings for a pair, but for those in `given` and those that cannot act."""
        config = self
        tables = (table for (field, value), table in self.by_pair_with.items() if getattr(self, field) == value)
        by_pair = next(tables, self.by_pair)
        for key, value in by_pair.get(pair, by_pair.get("", {})).items():
            name, _, term = key.partition(".")
            if {name, key}.isdisjoint(given) and acts(self, name):
                setting: dict[str, Any] = {name: {**config.weights, term: value} if term else value}
                config = dataclasses.replace(config, **setting)
        return config

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> Self:
        """Fill in what depends on the networks and check everything.

        Raises:
            InvalidSetting: naming the value, and what would do.
        """
        if not set(self.soft_terms).isdisjoint(self.terms):
            check_classes(student, teacher)
        terms = default_of(type(self).__dataclass_fields__["weights"])
        for term, weight in self.weights.items():
            require(term in terms, f"weights.{term}: {self.name} has the terms {', '.join(terms)}")
            check_number(f"weights.{term}", weight, least=0)
        if not any(self.weights.values()):
            raise InvalidSetting("all weights are 0: nothing would be learned")
        check_numbers(self)
        return self


def require(ok: bool, message: str) -> None:
    """Raise `InvalidSetting(message)` unless `ok`."""
    if not ok:
        raise InvalidSetting(message)


def temperature_of(*terms: str, default: float, source: str) -> Any:
    """The field `temperature` of a configuration whose `terms` compare softened class probabilities."""
    return option(
        default,
        f"temperature of the softened class probabilities in {', '.join(terms)}",
        source=source,
        search=Search(1.0, 8.0),
        above=0,
        **acts_with(*terms),
    )


def standardise_of(*terms: str, published: str = "who do not have this method") -> Any:
    """The field `standardise` of a configuration whose `terms` compare softened class probabilities.

    Args:
        terms: of the configuration.
        published: which temperature and weights go with it, as a clause about its authors.
    """
    return option(
        False,
        f"z-score each sample's logits for {', '.join(terms)}, so that only their shape is matched",
        source=f"logit standardisation (Sun et al., CVPR 2024), {published}",
        search=Search(choices=(True, False)),
        **acts_with(*terms),
    )


@dataclass(frozen=True)
class DistillConfig(MethodConfig):
    """A method that compares softened class probabilities: in Hinton's term `kd` beside its own, or in its own.

    One with terms of its own names them in `soft_terms` and declares both fields for them.
    """

    soft_terms: ClassVar[tuple[str, ...]] = ("kd",)

    temperature: float = temperature_of(*soft_terms, default=4.0, source="CRD (ICLR 2020), sec. 4: T = 4")
    standardise: bool = standardise_of(
        *soft_terms, published="who take temperature 2 and kd = 9 for most pairs: here both have to be set"
    )


def check_classes(student: FeatureSpec, teacher: FeatureSpec) -> None:
    """Refuse to compare the probabilities of different classes."""
    require(
        student.logits == teacher.logits,
        f"the teacher knows {teacher.logits} classes, the student {student.logits}: both must agree",
    )


def match_stages(student: FeatureSpec, teacher: FeatureSpec) -> list[list[int]]:
    """Which student stage meets which teacher stage, the stem (stage 0) left out.

    Equal numbers meet by position. Otherwise the shorter side is spread evenly over the longer one: a strictly
    monotone map that fixes the last stages together.

    Returns:
        pairs `[student stage, teacher stage]`.
    """
    num_student, num_teacher = len(student.stages) - 1, len(teacher.stages) - 1
    num_pairs = min(num_student, num_teacher)
    return [
        [round(k * num_student / num_pairs), round(k * num_teacher / num_pairs)] for k in range(1, num_pairs + 1)
    ]


def check_stage(setting: str, stage: int, spec: FeatureSpec, who: str) -> None:
    """Refuse a stage that a network does not have."""
    last = len(spec.stages) - 1
    require(0 <= stage <= last, f"{setting}: the {who} has stages 0 to {last}, not {stage}")


def check_stages(stages: list[list[int]], student: FeatureSpec, teacher: FeatureSpec) -> None:
    """Refuse a stage map with stages that do not exist or that run against each other."""
    require(bool(stages), "stages=[] matches no stage: give at least one pair")
    for pair in stages:
        numbers = len(pair) == 2 and all(type(stage) is int for stage in pair)  # true is an int, and no stage
        require(numbers, f"stages: {pair} is not a pair [student stage, teacher stage]")
        check_stage("stages", pair[0], student, "student")
        check_stage("stages", pair[1], teacher, "teacher")
    for earlier, later in itertools.pairwise(stages):
        require(
            earlier[0] < later[0] and earlier[1] < later[1],
            f"stages: {earlier} comes before {later}, but both sides must ascend",
        )


def pretraining_of(
    default: float = 0.125, source: str = "RepDistiller: 30 epochs before 240", **conditions: Any
) -> Any:
    """The field `pretraining`; `conditions` as of `acts_with`."""
    return option(
        default,
        "length of the stage before the main training, as a part of train.epochs; an epoch at least",
        source=source,
        search=Search(0.02, 0.5, log=True),
        above=0,
        **conditions,
    )


@dataclass(frozen=True)
class PretrainedConfig(DistillConfig):
    """A method with a stage before the main training."""

    pretraining: float = pretraining_of()


class _Staged(Protocol[T]):
    """`Features`, whose parts are maps, or a `FeatureSpec`, whose parts are shapes."""

    @property
    def stages(self) -> tuple[T, ...]: ...
    @property
    def preacts(self) -> tuple[T, ...]: ...


@dataclass(frozen=True)
class StageConfig(DistillConfig):
    """A method that compares maps stage by stage; of others it is shown none (`Method.stages_read`)."""

    stages: list[list[int]] | None = option(
        None, "pairs [student stage, teacher stage], 0 the stem; default: all but the stem, by position"
    )

    def default_stages(self, student: FeatureSpec, teacher: FeatureSpec) -> list[list[int]]:
        """The pairs where none are given."""
        return match_stages(student, teacher)

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> Self:
        stages = self.default_stages(student, teacher) if self.stages is None else self.stages
        check_stages(stages, student, teacher)
        resolved = dataclasses.replace(self, stages=stages)
        return super(StageConfig, resolved).resolve(student, teacher)

    def matched(self, student: _Staged[T], teacher: _Staged[T]) -> list[tuple[T, T]]:
        """The stages that meet, of a resolved configuration: maps or shapes, the student's first."""
        assert self.stages is not None
        return [(student.stages[s], teacher.stages[t]) for s, t in self.stages]


@dataclass(frozen=True)
class PreactConfig(StageConfig):
    """A method that compares maps before their last activation."""

    def resolve(self, student: FeatureSpec, teacher: FeatureSpec) -> Self:
        resolved = super().resolve(student, teacher)
        assert resolved.stages is not None
        for spec, whose in ((student, "student"), (teacher, "teacher")):
            require(bool(spec.preacts), f"it reads preacts, which the {whose}'s Features do not show")
        for pair in resolved.stages:
            require(0 not in pair, f"stages: {pair}: a stem, stage 0, shows no map before its activation")
        return resolved

    def matched(self, student: _Staged[T], teacher: _Staged[T]) -> list[tuple[T, T]]:
        """The stages that meet before their last activation, of a resolved configuration."""
        assert self.stages is not None
        return [(student.preacts[s], teacher.preacts[t]) for s, t in self.stages]
