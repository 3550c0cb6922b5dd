"""The one list of methods: filled by a decorator in each method's file, read by everything else."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import math
import pkgutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from methods import plugins
from methods.base import Context, Method, Reference
from methods.config import (
    ALONE,
    BrokenMethod,
    InvalidSetting,
    MethodConfig,
    check_stage,
    dead_settings,
    default_of,
    require,
    unknown,
)
from methods.features import FeatureSpec

_METHODS: dict[str, type[Method[Any]]] = {}
MethodClass = TypeVar("MethodClass", bound=type[Method[Any]])


def register(
    name: str,
    config_class: type[MethodConfig],
    *,
    summary: str,
    reference: Reference | None,
    knowledge: str | None = None,
) -> Callable[[MethodClass], MethodClass]:
    """Class decorator that puts a method into the registry under `name`.

    Args:
        summary: what it does, in a line.
        reference: its paper; None: no paper's.
        knowledge: what passes from teacher to student, in the field's words (logits, features, attention,
            relations); default: logits for a method that needs nothing else, features for others.
    """

    def add(cls: MethodClass) -> MethodClass:
        if name in _METHODS:
            raise ValueError(f"two methods are called {name}: {_METHODS[name].__module__} and {cls.__module__}")
        _check_declared(name, cls, config_class)
        cls.name, cls.config_class, cls.summary, cls.reference = name, config_class, summary, reference
        cls.knowledge = knowledge or ("logits" if cls.needs <= {"logits"} else "features")
        _METHODS[name] = cls
        return cls

    return add


def _check_declared(name: str, cls: type[Method[Any]], config_class: type[MethodConfig]) -> None:
    """Refuse what would be found later only, where nothing points to the file.

    Raises:
        TypeError: naming what to write.
    """
    config = config_class.__name__
    if "__dataclass_fields__" not in vars(config_class):
        raise TypeError(f"{config}: write @dataclass(frozen=True) above it, or none of its settings is one")
    for field in dataclasses.fields(config_class):
        if field.name in ("schedule", "warm_up"):
            raise TypeError(f"{config}.{field.name}: write it without a type: it is not a setting of the method")
        if "help" not in field.metadata:
            raise TypeError(f"{config}.{field.name}: declare it by option(default, meaning)")
        search, default = field.metadata["search"], default_of(field)
        if isinstance(search, Mapping) and (strays := search.keys() - default.keys()):
            raise TypeError(
                f"{config}.{field.name} has a range for {', '.join(sorted(strays))}, but its entries are "
                f"{', '.join(default)}"
            )
    fields = config_class.__dataclass_fields__
    if fields["name"].default != name:
        raise TypeError(f"{config}.name is '{fields['name'].default}', but its method is registered as '{name}'")
    if "ce" not in default_of(fields["weights"]):
        raise TypeError(f"{config}.weights lacks ce, the cross entropy, which has weight only if it is named")
    if isinstance(cls.needs, str):
        raise TypeError(f"{cls.__name__}.needs is a word: write frozenset({{'{cls.needs}'}})")


@cache
def import_all(package: str, broken: type[Exception]) -> None:
    """Import every file of a package, and what other packages add to it, so that what they register is there.

    Raises:
        broken: a file cannot be imported; the message names file, line and error.
    """
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    others = plugins.entries(package.split(".")[-1])
    for name in [*(f"{package}.{file.name}" for file in files), *(entry.module for entry in others)]:
        try:
            importlib.import_module(name)
        except Exception as error:  # the file's own, whatever it does
            raise broken(_where_and_why(error, name)) from error


def _where_and_why(error: Exception, module: str) -> str:
    """The place of an error in a module that was being imported, and what it is."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {kind}: {error.msg}"
    frames = list(traceback.walk_tb(error.__traceback__))
    frame, line = next((each for each in reversed(frames) if each[0].f_globals["__name__"] == module), frames[-1])
    return f"{frame.f_code.co_filename}, line {line}: {kind}: {error}"


def available() -> tuple[str, ...]:
    """Names of all methods, the student alone first, then by the year of the paper; those of no paper last.

    Raises:
        BrokenMethod: a file of `methods` cannot be imported.
    """
    import_all("methods", BrokenMethod)
    return tuple(sorted(_METHODS, key=lambda name: (name != ALONE, _year(_METHODS[name].reference), name)))


def _year(reference: Reference | None) -> float:
    return reference.year if reference else math.inf


def get(name: str) -> type[Method[Any]]:
    """The class of a method.

    Raises:
        InvalidSetting: no method has this name; the message lists the closest and all names.
    """
    if name not in available():
        raise InvalidSetting(unknown("method", name, available()))
    return _METHODS[name]


def configure(name: str, **settings: Any) -> MethodConfig:
    """A method's configuration: its defaults, or those of a variant, changed by `settings`.

    `weights` may name some of the terms.

    Raises:
        InvalidSetting: an unknown method or setting.
    """
    cls = get(name).config_class
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in settings:
        if key not in fields:
            raise InvalidSetting(unknown(f"setting of {name}", key, fields))
    weights = settings.pop("weights", {})
    require(isinstance(weights, dict), f"weights={weights}: a mapping is expected, as {{'ce': 1}}")
    config = cls(**settings, weights=default_of(fields["weights"]) | weights)
    return config.for_pair("", {*settings, *(f"weights.{term}" for term in weights)})


def create(
    name: str,
    student: FeatureSpec,
    teacher: FeatureSpec,
    *,
    num_classes: int,
    targets: Tensor,
    generator: torch.Generator | None = None,
    **config: Any,
) -> Method[Any]:
    """Build a method for a pair of networks.

    Args:
        name: one of `available()`.
        student, teacher: shapes of the networks' features.
        num_classes: K.
        targets: labels of the training set by sample index, int64 `[N]`, on the training device.
        generator: random numbers of this method, on the device of `targets`. Its initial seed determines the
            connectors' initialisation; it then serves the method while it trains. Default: seed 0.
        config: settings that differ from the method's defaults.

    Raises:
        InvalidSetting: unknown name or setting, a value that cannot work, or a setting that cannot act; or the
            networks do not show what the method reads.
    """
    return build(configure(name, **config), student, teacher, num_classes, targets, generator)


def _initial_seed(generator: torch.Generator) -> int:
    """The seed of the connectors' initialisation: another stream than the one that the generator draws."""
    digest = hashlib.sha256(f"initialisation {generator.initial_seed()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def build(
    config: MethodConfig,
    student: FeatureSpec,
    teacher: FeatureSpec,
    num_classes: int,
    targets: Tensor,
    generator: torch.Generator | None = None,
) -> Method[Any]:
    """`create` from a configuration object."""
    if complaints := dead_settings(config):
        raise InvalidSetting("\n".join(complaints))
    if generator is None:
        generator = torch.Generator(targets.device).manual_seed(0)
    # Connectors are initialised on the CPU, so that they are the same on every device.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_initial_seed(generator))
        shown = (
            _Shown(**vars(student), method=config.name, whose="student"),
            _Shown(**vars(teacher), method=config.name, whose="teacher"),
        )
        context = Context(*shown, num_classes, targets, generator)
        method = get(config.name)(config.resolve(*shown), context)
    for spec in shown:
        for part in method.needs & _Shown.optional:
            getattr(spec, part)
    for spec, stages in zip(shown, method.stages_read or ((), ()), strict=True):
        for stage in stages:
            check_stage("stages_read", stage, spec, spec.whose)
    return method.to(targets.device)


@dataclass(frozen=True, eq=False)
class _Shown(FeatureSpec):
    """Shapes that say so where a part is read that their network did not show."""

    optional: ClassVar[frozenset[str]] = frozenset({"preacts", "final"})
    method: str = ""
    whose: str = ""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in _Shown.optional and not value:
            raise InvalidSetting(
                f"method {self.method} reads {name}, which the {self.whose}'s Features do not show"
            )
        return value
