"""The contract check: before hours are spent, a few steps on throwaway copies show that everything fits.

It proves that each method can serve the pair, that every parameter it owns learns, that the teacher stays as it is,
and it measures how long a step takes on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import models
from benchmarks.config import TrainConfig
from benchmarks.data import Batch, TrainBatches
from benchmarks.errors import RunFailed, UserError
from benchmarks.protocol import StudentConfig
from benchmarks.training.build import build_member, build_network, frozen
from benchmarks.training.cohort import (
    autocast,
    changed_entry,
    copy_state,
    teacher_features,
    union_of_needs,
    wait_for,
)
from benchmarks.training.folding import fold_batch_norms
from benchmarks.training.member import Member
from methods import Features, FeatureSpec, InvalidSetting, get

TIMED_STEPS = 2


def rehearse(
    students: Sequence[StudentConfig],
    specs: tuple[FeatureSpec, FeatureSpec],
    batches: TrainBatches,
    num_steps: int,
) -> float:
    """Check every student's contract on throwaway copies.

    Returns:
        seconds of one training step of the whole cohort, teacher included.

    Raises:
        UserError: a method cannot serve the pair.
        RunFailed: a method breaks the contract.
    """
    train = students[0].train
    batch = batches.probe(train.batch_size)
    teacher = None
    if any(get(student.method.name).needs for student in students):
        teacher = frozen(build_network(students[0].pair.teacher, specs[1].logits, seed=0, device=batches.device))
    members = [build_member(student, specs, batches.targets, num_steps, teacher) for student in students]
    if teacher is not None:
        fold_batch_norms(teacher)
    for student, member in zip(students, members, strict=True):
        _check_member(student, member, teacher, batch)
    return _time_step(members, teacher, batch, train)


def _check_member(student: StudentConfig, member: Member, teacher: models.Network | None, batch: Batch) -> None:
    before = None if teacher is None else copy_state(teacher)
    precision = autocast(student.train, batch.images.device)
    shown = teacher_features(teacher, member.needs, batch, precision)
    versions = [tensor._version for tensor in _tensors(shown)]
    member.begin_epoch(0, student.train.lr)
    try:
        losses, _ = member.losses(batch, shown, precision)
        _check_learners(member, losses)
        member.step(batch, shown, precision, step=0)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, InvalidSetting) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{member.name} cannot serve the pair {student.pair.name}: {reason}") from error
    for name, parameter in member.method.named_parameters():
        if parameter.grad is None:
            raise RunFailed(f"{member.name}: its parameter {name} gets no gradient")
    if [tensor._version for tensor in _tensors(shown)] != versions:
        raise RunFailed(f"{member.name} writes into the teacher's features, which other students read")
    if teacher is not None and before is not None:
        _check_frozen(member.name, teacher, before)


def _tensors(features: Features | None) -> list[Tensor]:
    if features is None:
        return []
    return [*features.stages, *features.preacts, features.embedding, features.logits]


def _check_learners(member: Member, losses: Tensor) -> None:
    """Everything that the losses depend on and that wants a gradient must be in the optimiser.

    A module kept in a plain list, say, is no parameter of its method: it would take part and never learn.
    """
    optimised = {id(p) for group in member.optimizer.param_groups for p in group["params"]}
    names = {id(parameter): name for name, parameter in member.method.named_parameters()}
    seen, todo = set(), [losses.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in optimised:
            name = names.get(id(leaf), f"of shape {tuple(leaf.shape)}")
            raise RunFailed(f"{member.name}: its parameter {name} is in no optimiser and would not learn")
        todo += [following for following, _ in node.next_functions]


def _check_frozen(name: str, teacher: models.Network, before: dict[str, torch.Tensor]) -> None:
    if teacher.training or any(parameter.requires_grad for parameter in teacher.parameters()):
        raise RunFailed(f"{name} takes the teacher out of its frozen eval mode")
    if key := changed_entry(teacher, before):
        raise RunFailed(f"{name} changes the teacher's {key}")


def _step(members: Sequence[Member], teacher: models.Network | None, batch: Batch, train: TrainConfig) -> None:
    precision = autocast(train, batch.images.device)
    features = teacher_features(teacher, union_of_needs(members), batch, precision)
    for member in members:
        member.step(batch, features, precision, step=0)


def _time_step(
    members: Sequence[Member], teacher: models.Network | None, batch: Batch, train: TrainConfig
) -> float:
    wait_for(batch.images.device)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        _step(members, teacher, batch, train)
    wait_for(batch.images.device)
    return (time.perf_counter() - started) / TIMED_STEPS
