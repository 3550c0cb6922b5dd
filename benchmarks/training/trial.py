"""What a method is held to while it is tried, at no cost for the steps that follow.

It reads the parts of features that its `needs` name, and gives one scalar for each term that is weighed;
what it draws comes from its own stream of random numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from benchmarks.errors import UserError, require
from methods import Features, Method
from methods.features import BY_STAGE


@contextlib.contextmanager
def on_trial(method: Method[Any]) -> Iterator[None]:
    """Within it, what `method` reads and gives is checked.

    Raises:
        UserError: within, where it reads or gives something else than it says.
    """
    known = set(method.config.weights) - {"ce"}
    active = set(method.terms) - {"ce"}
    require(
        not active or bool(method.needs),
        f"method {method.name} has the terms {_braced(active)}, but reads nothing: its needs are empty",
    )
    tried = {"forward": _tried(method, method.forward, method.needs, active, known)}
    if stage := method.pretraining:
        terms = set(stage.terms)
        tried["pretrain"] = _tried(method, method.pretrain, stage.needs, terms, terms)
    vars(method).update(tried)
    try:
        yield
    finally:
        for name in tried:
            del vars(method)[name]


def _tried(
    method: Method[Any], losses: Callable[..., Any], needs: frozenset[str], active: set[str], known: set[str]
) -> Callable[..., dict[str, Tensor]]:
    """`losses`, checked: it must give the `active` ones of its `known` terms and may give the others."""

    def call(
        student: Features | None, teacher: Features | None, target: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        shown = (each and _Declared(**vars(each), of=method.name, needs=needs) for each in (student, teacher))
        own = student.tensors() if student else ()
        versions = [tensor._version for tensor in own]
        before = global_draws(target)
        terms: dict[str, Tensor] = losses(*shown, target, index)
        require(
            torch.equal(global_draws(target), before),
            f"method {method.name} draws torch's global random numbers, which no seed sets here and no checkpoint "
            "keeps: give its draws generator=self.generator",
        )
        require(
            [tensor._version for tensor in own] == versions,
            f"method {method.name} writes into the student's features, whose logits the accuracy in training is "
            "of: change a copy",
        )
        _check(method.name, terms, active, known)
        return terms

    return call


def global_draws(target: Tensor) -> Tensor:
    """Where torch's global random numbers stand on the device of a batch."""
    return torch.cuda.get_rng_state(target.device) if target.is_cuda else torch.get_rng_state()


def _check(name: str, terms: Any, active: set[str], known: set[str]) -> None:
    require(
        isinstance(terms, dict),
        f"method {name} returned a {type(terms).__name__}; a dict of its named terms is needed",
    )
    require(
        active <= terms.keys() <= known,
        f"method {name} returned the terms {_braced(terms)}, but its weights name {_braced(known)}",
    )
    for term, value in terms.items():
        what = f"has shape {list(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
        require(
            isinstance(value, Tensor) and value.ndim == 0,
            f"term {term} of method {name} {what}; a scalar is needed",
        )


@dataclass(frozen=True, kw_only=True)
class _Declared(Features):
    """Features that show their parts to a method as far as it declares them."""

    of: str
    needs: frozenset[str]

    def __getattribute__(self, name: str) -> Any:
        if name in Features.__dataclass_fields__ and name not in self.needs:
            raise UserError(f"method {self.of} reads {name}, which its needs, {_braced(self.needs)}, do not name")
        value = super().__getattribute__(name)
        hidden = name in BY_STAGE and not all(each.numel() for each in value)
        return _Maps.of(value, f"method {self.of} reads {name}") if hidden else value


class _Maps(tuple[Tensor, ...]):
    """Maps by stage, some of them empty, which a method must not read."""

    what: str

    @classmethod
    def of(cls, maps: tuple[Tensor, ...], what: str) -> Self:
        found = cls(maps)
        found.what = what
        return found

    def __getitem__(self, key: Any) -> Any:
        found, numbers = super().__getitem__(key), range(len(self))[key]
        read = [(numbers, found)] if isinstance(numbers, int) else zip(numbers, found, strict=True)
        for stage, each in read:
            require(each.numel() > 0, f"{self.what}[{stage}], a stage that its stages_read do not name")
        return found

    def __iter__(self) -> Iterator[Tensor]:
        return (self[stage] for stage in range(len(self)))

    def __add__(self, other: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*self, *other)


def _braced(names: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(names)) + "}"
