"""One training step of a cohort: one look of the teacher at the batch, many students."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch

from benchmarks.data import Batch, View
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
    views: Mapping[View, Batch],
    step: int,
    compiled: Compiled = NOTHING,
) -> None:
    """One step of every member.

    Args:
        members: all of them in the stage that `step` belongs to.
        teaching: who teaches them.
        views: the batch in each of `views_of` the members.
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
    views: Mapping[View, Batch],
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
        shown = {view: teaching.shows(needs, batch, compiled.networks) for view, batch in views.items()}
    for member, lane in zip(members, learning, strict=True):
        taught = partial(_taught, looking, [shown[view] for view in member.views])
        with lane:
            member.step(Batch.join([views[view] for view in member.views]), taught, step, compiled)


def _taught(looking: Lane, shown: Sequence[Features | None]) -> Features | None:
    """What the teacher shows of several views; who reads it waits until the teacher has looked."""
    looking.join()
    return join_features(shown)


def views_of(members: Iterable[Member]) -> tuple[View, ...]:
    """Those that any of the members needs of a batch, the upright first one before all others."""
    return tuple(dict.fromkeys(view for member in members for view in member.views))


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
