"""One training step of a cohort: one look of the teacher at the batch, many students."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from benchmarks.config import TrainConfig
from benchmarks.data import Batch, Draw
from benchmarks.models import Network
from benchmarks.training.compiling import NOTHING, Compiled, look
from benchmarks.training.graphs import Lane
from benchmarks.training.member import Member
from benchmarks.training.stage import Stage
from benchmarks.training.view_table import ViewTable
from methods import Features
from methods.features import joined


def train_step(
    members: Sequence[Member],
    teacher: Network | None,
    views: Sequence[Batch],
    precision: torch.autocast,
    step: int,
    table: ViewTable | None = None,
    compiled: Compiled = NOTHING,
) -> None:
    """One step of every member.

    Args:
        members: all of them in the stage that `step` belongs to.
        teacher: frozen, in eval mode; None if no method needs one.
        views: the batch, augmented in as many ways as `num_views`.
        precision: the networks' autocast.
        step: counted from the main training's first.
        table: where the teacher's outputs for these views can be looked up.
        compiled: what may compute by compiled kernels.
    """
    for member in members:
        member.advance(step)
    needs = union_of_needs(member.stage(step) for member in members)
    learn(members, teacher, views, precision, step, needs, table, compiled=compiled)


def learn(
    members: Sequence[Member],
    teacher: Network | None,
    views: Sequence[Batch],
    precision: torch.autocast,
    step: int,
    needs: frozenset[str],
    table: ViewTable | None = None,
    lanes: Sequence[Lane] = (),
    compiled: Compiled = NOTHING,
) -> None:
    """What of a step happens on the device, under one look of the teacher at each view of the batch.

    It reads no device value, so that it can be recorded and replayed. Arguments as of `train_step`.

    Args:
        needs: what the teacher shows.
        lanes: where the teacher works, then the members, one each; default: one behind the other.
    """
    teaching, *learning = lanes or [Lane()] * (1 + len(members))
    with teaching:
        shown = [teacher_features(teacher, needs, view, precision, table, compiled.networks) for view in views]
    for member, lane in zip(members, learning, strict=True):
        seen = slice(member.num_views)
        with lane:
            member.step(Batch.join(views[seen]), partial(_taught, teaching, shown[seen]), precision, step, compiled)


def _taught(teaching: Lane, shown: Sequence[Features | None]) -> Features | None:
    """What the teacher shows of several views; who reads it waits until the teacher has looked."""
    teaching.join()
    return join_features(shown)


def num_views(members: Iterable[Member]) -> int:
    """Augmented views that the members need of a batch."""
    return max((member.num_views for member in members), default=1)


@torch.no_grad()
def teacher_features(
    teacher: Network | None,
    needs: frozenset[str],
    batch: Batch,
    precision: torch.autocast,
    table: ViewTable | None = None,
    compiles: bool = False,
) -> Features | None:
    """What a teacher shows of a batch: the union of what the methods need, in float32; None if that is nothing.

    It is looked up in `table` if that can be, which depends on the batch's shape and never on a value, and else
    computed, by compiled kernels if asked.
    """
    if teacher is None or not needs:
        return None
    if table is not None and table.answers(needs, batch):
        return table.look_up(batch)
    with precision:
        return look(teacher, batch.images, needs, compiles)


def look_ahead(teacher: Network | None, table: ViewTable, draw: Draw, precision: torch.autocast) -> Iterator[None]:
    """Let the teacher look at what it has not seen of these views, for `table`; yields behind each batch."""
    for batch in table.unseen(draw):
        shown = teacher_features(teacher, table.parts, batch, precision)
        assert shown is not None
        table.put(batch, shown)
        yield


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


def autocast(train: TrainConfig, device: torch.device) -> torch.autocast:
    """The networks' precision as a context."""
    return torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16")
