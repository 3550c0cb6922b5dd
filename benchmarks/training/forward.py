"""Every forward pass of a network and of a method's losses, by torch's own kernels or compiled ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.models import Network
from benchmarks.training.compiling import compiled
from methods import Features, Method
from methods.features import BY_STAGE, part_of

MAPS = BY_STAGE | {"final"}  # the parts of features that are computed for who needs them only


def look(network: Network, images: Tensor, needs: frozenset[str], compiles: bool = False) -> Features:
    """What a network shows of images, in float32.

    Args:
        network: computes in the precision around the call.
        images: `[B, 3, H, W]`, normalised.
        needs: parts of the features.
        compiles: by compiled kernels.
    """
    return (compiled(_look) if compiles else _look)(network, images, maps_of(needs))


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
    return (compiled(_judge) if compiles else _judge)(method, student, teacher, targets, index)


def _judge(
    method: Method[Any], student: Features, teacher: Features | None, targets: Tensor, index: Tensor
) -> Tensor:
    terms = {}
    if method.active("ce"):
        terms["ce"] = F.cross_entropy(method.labelled(student.logits), method.labelled(targets))
    if method.needs:
        assert teacher is not None
        terms |= method(student, teacher, targets, index)
    return torch.stack([terms[term] for term in method.terms])
