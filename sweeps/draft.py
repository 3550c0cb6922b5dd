"""How a space makes a variant of a method: field by field, each from the range that stands on it.

Parameters are called by the words of the command line without `method.`: `degree`, `weights.afb`, `loss.schedule`;
the entries of a list by their place, `block_size.1`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial

from benchmarks.config import RunConfig, plain
from benchmarks.errors import UserError, require
from benchmarks.variants import Specs, StudentConfig, Variant
from methods import Search, SearchEach, acts

Point = dict[str, Any]  # values of parameters
Pick = Callable[[str, Search, Any], Any]  # the value of a parameter, given its name, range and default


@dataclass(frozen=True)
class Base:
    """What a search starts from.

    Attributes:
        variant: what is not searched, and the defaults of what is.
        run: what it is trained in.
        specs: of student and teacher.
    """

    variant: Variant
    run: RunConfig
    specs: Specs

    def resolve(self, variant: Variant) -> StudentConfig:
        """A variant's whole configuration.

        Raises:
            UserError: it cannot work.
        """
        return variant.resolve(self.run, self.specs)


def get(config: Variant | StudentConfig, key: str) -> Any:
    """The value of a method's field, as `degree`, or of the schedule's, as `loss.start`."""
    owner, name = _owner(key)
    return getattr(getattr(config, owner), name)


def put(variant: Variant, key: str, value: Any) -> Variant:
    """The variant with another value of a field."""
    owner, name = _owner(key)
    return dataclasses.replace(variant, **{owner: dataclasses.replace(getattr(variant, owner), **{name: value})})


def _owner(key: str) -> tuple[str, str]:
    owner, _, name = key.rpartition(".")
    return owner or "method", name


class Draft:
    """A variant in the making.

    A field is picked only where it can act under what was picked before, and only from values that the pair's
    networks allow. Where what was picked before rules some of them out, it stays as it is: a study cannot have a
    parameter of other choices in some of its trials. So every draft is a variant that can be trained.

    Args:
        base: what it starts from.
        pick: decides.
    """

    def __init__(self, base: Base, pick: Pick) -> None:
        self.base, self.pick = base, pick
        self.variant = base.variant
        self.point: Point = {}

    def search(self, *keys: str) -> None:
        """Pick fields from the ranges that stand on them."""
        for key in keys:
            if self._acts(key):
                for name, search, index in self._entries(key, self._field(key).metadata["search"]):
                    if self._is_open(key, search, index):
                        self._pick(key, name, search, index)

    def choose(self, key: str, *choices: Any) -> None:
        """Pick a field from choices of the space's own."""
        if self._acts(key):
            self._pick(key, key, Search(choices=choices), None)

    def _field(self, key: str) -> dataclasses.Field[Any]:
        owner, name = _owner(key)
        fields = dataclasses.fields(getattr(self.variant, owner))
        return next(field for field in fields if field.name == name)

    def _acts(self, key: str) -> bool:
        owner, name = _owner(key)
        return acts(getattr(self.base.resolve(self.variant), owner), name)

    def _entries(self, key: str, search: Any) -> Iterator[tuple[str, Search, Any]]:
        """Name and range of each parameter of a field, and its index in the field's dict or list."""
        resolved = self.base.resolve(self.variant)
        if isinstance(search, SearchEach):
            ranges = search.of(resolved.method, *self.base.specs)
            yield from ((f"{key}.{k + 1}", each, k) for k, each in enumerate(ranges))
        elif isinstance(search, Mapping):  # a term that is switched off stays off
            value = get(resolved, key)
            yield from ((f"{key}.{name}", each, name) for name, each in search.items() if value[name] > 0)
        else:
            yield key, search, None

    def _is_open(self, key: str, search: Search, index: Any) -> bool:
        """Whether what was picked before rules out none of the choices that the pair allows."""
        possible = self._possible(self.variant, key, search, index)
        return all(choice in possible for choice in self._possible(self.base.variant, key, search, index))

    def _pick(self, key: str, name: str, search: Search, index: Any) -> None:
        value = get(self.base.resolve(self.variant), key)
        if search.choices:
            search = Search(choices=self._possible(self.base.variant, key, search, index))
            if len(search.choices) < 2:
                return
        picked = self.pick(name, search, _entry(value, index))
        self.point[name] = picked
        chosen = next((choice for choice in search.choices if written(choice) == picked), picked)
        self.variant = put(self.variant, key, _with_entry(value, index, chosen))

    def _possible(self, variant: Variant, key: str, search: Search, index: Any) -> tuple[Any, ...]:
        """The choices that can be trained where all else is as in a variant: of the base, they never change."""
        value = get(self.base.resolve(variant), key)

        def works(choice: Any) -> bool:
            try:
                self.base.resolve(put(variant, key, _with_entry(value, index, choice)))
            except UserError:
                return False
            return True

        return tuple(choice for choice in search.choices if works(choice))


def _entry(value: Any, index: Any) -> Any:
    return value if index is None else value[index]


def _with_entry(value: Any, index: Any, entry: Any) -> Any:
    if index is None:
        return entry
    copy = type(value)(value)
    copy[index] = entry
    return copy


def written(choice: Any) -> Any:
    """A choice as Optuna keeps it: a list as text, an enum's member as its name."""
    return json.dumps(choice) if isinstance(choice, list) else plain(choice)


def from_trial(trial: Trial) -> Pick:
    """What the study's sampler suggests for a trial."""

    def pick(name: str, search: Search, default: Any) -> Any:
        if search.choices:
            return trial.suggest_categorical(name, [written(choice) for choice in search.choices])
        assert search.low is not None
        assert search.high is not None
        return trial.suggest_float(name, search.low, search.high, log=search.log)

    return pick


def defaults(name: str, search: Search, default: Any) -> Any:
    """The default of every parameter, or what the user has set.

    Raises:
        UserError: it is outside its range. Optuna takes it into the queue, but not into the queue again.
    """
    key = name if name.startswith("loss.") else f"method.{name}"
    require(
        search.has(default),
        f"{key}={written(default)}: the search starts from this value, which must be in its range, {search}",
    )
    return written(default)


def of_point(point: Point) -> Pick:
    """The parameters of a point."""
    return lambda name, search, default: point[name]
