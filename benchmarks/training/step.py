"""One training step of a cohort: one look of the teacher at the batch, many students."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch

from benchmarks.data import Batch
from benchmarks.training.compiling import NOTHING, Compiled
from benchmarks.training.graphs import Lane
from benchmarks.training.member import Member
from benchmarks.training.stage import Stage
from benchmarks.training.teaching import Teaching
from methods import Features
from methods.features import joined


def train_step(
    members: Sequence[Member],
    teaching: Teaching,
    views: Sequence[Batch],
    step: int,
    compiled: Compiled = NOTHING,
) -> None:
    """One step of every member.

    Args:
        members: all of them in the stage that `step` belongs to.
        teaching: who teaches them.
        views: the batch, augmented in as many ways as `num_views`.
        step: counted from the main training's first.
        compiled: what may compute by compiled kernels.
    """
    for member in members:
        member.advance(step)
    needs = union_of_needs(member.stage(step) for member in members)
    learn(members, teaching, views, step, needs, compiled=compiled)


def learn(
    members: Sequence[Member],
    teaching: Teaching,
    views: Sequence[Batch],
    step: int,
    needs: frozenset[str],
    lanes: Sequence[Lane] = (),
    compiled: Compiled = NOTHING,
) -> None:
    """What of a step happens on the device, under one look of the teacher at each view of the batch.

    It reads no device value, so that it can be recorded and replayed. Arguments as of `train_step`.

    Args:
        needs: what the teacher shows.
        lanes: where the teacher works, then the members, one each; default: one behind the other.
    """
    looking, *learning = lanes or [Lane()] * (1 + len(members))
    with looking:
        shown = [teaching.shows(needs, view, compiled.networks) for view in views]
    for member, lane in zip(members, learning, strict=True):
        seen = slice(member.num_views)
        with lane:
            member.step(Batch.join(views[seen]), partial(_taught, looking, shown[seen]), step, compiled)


def _taught(looking: Lane, shown: Sequence[Features | None]) -> Features | None:
    """What the teacher shows of several views; who reads it waits until the teacher has looked."""
    looking.join()
    return join_features(shown)


def num_views(members: Iterable[Member]) -> int:
    """Augmented views that the members need of a batch."""
    return max((member.num_views for member in members), default=1)


def join_features(views: Sequence[Features | None]) -> Features | None:
    """What a teacher shows of several views of a batch, one behind the other."""
    shown = [features for features in views if features is not None]
    if len(shown) < 2:
        return shown[0] if shown else None
    finals = [each.final for each in shown if each.final is not None]
    return Features(
        stages=tuple(torch.cat(maps) for maps in zip(*(each.stages for each in shown), strict=True)),
        preacts=tuple(torch.cat(maps) for maps in zip(*(each.preacts for each in shown), strict=True)),
        embedding=torch.cat([each.embedding for each in shown]),
        logits=torch.cat([each.logits for each in shown]),
        final=torch.cat(finals) if finals else None,
    )


def union_of_needs(learners: Iterable[Member | Stage], also: frozenset[str] = frozenset()) -> frozenset[str]:
    """Parts of a teacher's features that any of the methods reads, in the main training or in the given stages."""
    return joined(also.union(*(learner.needs for learner in learners)))
