"""How far two steps from one state end from each other."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.training.member import Member


def states(members: Sequence[Member], step: int) -> list[dict[str, Any]]:
    """Copies of everything that the members' next steps depend on."""
    return [copy.deepcopy(member.state(step)) for member in members]


def load(members: Sequence[Member], states: Sequence[dict[str, Any]], step: int) -> None:
    """Go to these states, and keep them."""
    for member, state in zip(members, states, strict=True):
        member.load(copy.deepcopy(state), step)  # an optimiser without buffers goes on in those it is given


def deviation(
    start: Mapping[str, Any], launched: Mapping[str, Any], replayed: Mapping[str, Any]
) -> tuple[float, str]:
    """How far two steps from one state end from each other, in lengths of the launched one, and in which part.

    Measured part by part: the means that batch norms keep move farther than weights do. Whole numbers, such as a
    generator's state, must be the same.
    """
    parts = [dict(_parts(state)) for state in (start, launched, replayed)]
    return max((_distance(*(each[name] for each in parts)), name) for name in parts[0])


def _parts(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """A state's tensors by what they are, all weights of a network, say, in one vector each."""
    found = defaultdict(list)
    for name, tensor in _named(state):
        first, *_, last = name.split(".")
        found[f"{first}.{last}"].append(tensor.detach().flatten())
    for name, tensors in found.items():
        yield name, torch.cat(tensors)


def _named(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{key}.")


def _distance(start: Tensor, launched: Tensor, replayed: Tensor) -> float:
    if not torch.equal(launched.isfinite(), replayed.isfinite()):  # or of another shape
        return math.inf
    same = launched.isfinite()
    if torch.equal(launched[same], replayed[same]):
        return 0.0
    if not launched.is_floating_point() or launched.shape != start.shape:
        return math.inf
    apart, length = (replayed - launched)[same].double().norm(), (launched - start)[same].double().norm()
    return float(apart / length)
