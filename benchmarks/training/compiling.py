"""torch.compile, where it pays: what lies between convolutions becomes few kernels.

A network and a method's losses are functions on their own: what comes out wrong in one leaves the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.models import Network
from methods import Features, Method
from methods.features import BY_STAGE, part_of

# Of one function, for all networks, methods and shapes that a process may meet: by itself torch gives up at eight,
# without a word.
MOST_VERSIONS = 100_000

MAPS = BY_STAGE | {"final"}  # the parts of features that are computed for who needs them only

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compiled:
    """What computes by compiled kernels, which are made at the first call, and for everything new again.

    Attributes:
        networks: teacher and students.
        losses: names of the students whose losses do.
    """

    networks: bool = False
    losses: frozenset[str] = frozenset()


NOTHING = Compiled()


def has_gpu_compiler() -> bool:
    """Whether kernels for a GPU can be compiled here."""
    from torch.utils._triton import has_triton

    return has_triton() and any(map(shutil.which, ("cc", "gcc", "clang")))


def look(network: Network, images: Tensor, needs: frozenset[str], compiles: bool = False) -> Features:
    """What a network shows of images, in float32.

    Args:
        network: computes in the precision around the call.
        images: `[B, 3, H, W]`, normalised.
        needs: parts of the features.
        compiles: by compiled kernels.
    """
    return (_compiled(_look) if compiles else _look)(network, images, maps_of(needs))


def maps_of(needs: frozenset[str]) -> frozenset[str]:
    """The maps among these parts of features, whole parts and those of a stage."""
    return frozenset(need for need in needs if part_of(need) in MAPS)


def _look(network: Network, images: Tensor, needs: frozenset[str]) -> Features:
    return network.features(images, preacts="preacts" in map(part_of, needs)).for_loss(needs)


def judge(
    method: Method[Any],
    student: Features,
    teacher: Features | None,
    targets: Tensor,
    index: Tensor,
    compiles: bool = False,
) -> Tensor:
    """A method's unweighted loss terms, the cross entropy among them, `[terms]`.

    Args:
        method: in the main training.
        student, teacher: float32, of the parts that it needs; the teacher may be None if it needs none.
        targets, index: as of `Method.forward`.
        compiles: by compiled kernels.
    """
    return (_compiled(_judge) if compiles else _judge)(method, student, teacher, targets, index)


def _judge(
    method: Method[Any], student: Features, teacher: Features | None, targets: Tensor, index: Tensor
) -> Tensor:
    terms = {}
    if method.active("ce"):
        terms["ce"] = F.cross_entropy(student.logits, targets)
    if method.needs:
        assert teacher is not None
        terms |= method(student, teacher, targets, index)
    return torch.stack([terms[term] for term in method.terms])


@cache
def _compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    import torch._dynamo  # which takes a second, and most commands do without

    torch._dynamo.config.recompile_limit = MOST_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MOST_VERSIONS
    # Kernels that do not wait for each other become one, of AFT-KD's losses every other. Only for GPUs torch can.
    options: dict[str, Any] = {"combo_kernels": True} if torch.cuda.is_available() else {}
    return torch.compile(function, dynamic=False, options=options)
