"""The contract check: before hours are spent, a few steps on throwaway copies show that everything fits.

It proves that each method can serve the pair, that every parameter it owns learns, that the teacher stays as it is,
and it measures how long a step takes on this machine.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.config import TrainConfig
from benchmarks.data import Batch, TrainBatches
from benchmarks.errors import RunFailed, UserError, first_line
from benchmarks.training.autograd import leaves_by_term
from benchmarks.training.build import build_cohort, build_network, frozen
from benchmarks.training.device import seconds
from benchmarks.training.graphs import graphs_of
from benchmarks.training.launcher import WARM_UP, Launcher
from benchmarks.training.member import Member
from benchmarks.training.snapshot import Snapshot
from benchmarks.training.step import views_of
from benchmarks.training.teaching import Teaching
from benchmarks.training.trial import global_draws, on_trial
from benchmarks.variants import Specs, StudentConfig
from methods import Features, InvalidSetting

TIMED_STEPS = 2
# Numbers of a step, and of an epoch, before the main training and in it.
MOMENTS = (-1, 0)


@dataclass(frozen=True)
class Pace:
    """Seconds of one step of a cohort, teacher included.

    Attributes:
        pretraining: of those with a stage before the main training, in it; 0 where there are none.
        main: of all, in the main training.
        pretraining_epochs: of the longest such stage.
    """

    pretraining: float
    main: float
    pretraining_epochs: int


def rehearse(
    students: Sequence[StudentConfig],
    specs: Specs,
    batches: TrainBatches,
    num_steps: int,
    say: Callable[[str], None],
) -> Pace:
    """Check every student's contract on throwaway copies, and measure their pace.

    Args:
        students: of the cohort, resolved.
        specs: of student and teacher.
        batches: of the training.
        num_steps: of the main training.
        say: told of what may be meant so, and seldom is.

    Raises:
        UserError: a method cannot serve the pair, or reads or gives something else than it says.
        RunFailed: a method breaks the contract otherwise.
    """
    train = students[0].train
    sizes = sorted({train.batch_size, batches.last_batch_size}, reverse=True)
    teacher = None
    if any(student.has_teacher for student in students):
        teacher = frozen(build_network(students[0].pair.teacher, specs[1].logits, seed=0, device=batches.device))
    members, teaching = build_cohort(students, specs, batches.targets, num_steps, teacher)
    for student, member in zip(students, members, strict=True):
        try:
            with on_trial(member.method):
                deaf = [_check_member(student, member, teaching, batches.probe(size)) for size in sizes]
        except (UserError, RunFailed) as error:
            error.student = member.name
            raise
        if terms := set.intersection(*deaf):
            what = f"the student gets no gradient of {' and '.join(sorted(terms))}"
            say(f"{member.name}: in its first step {what}, as if something were detached")
    pretraining, main = (_time_step(members, teaching, batches, train, step) for step in MOMENTS)
    return Pace(pretraining, main, max(member.pretraining_epochs for member in members))


def _check_member(student: StudentConfig, member: Member, teaching: Teaching, batch: Batch) -> set[str]:
    """Check a student with a batch; terms of the main training of which its network gets no gradient."""
    learning: set[Tensor] = set()
    for step in MOMENTS[not member.pretraining_epochs :]:
        behind = _check_stage(student, member, teaching, batch, step)
        learning = learning.union(*behind)
    for name, parameter in member.method.named_parameters():
        if parameter not in learning:
            raise RunFailed(f"{member.name}: its parameter {name} gets no gradient")
    return {
        term
        for term, leaves in zip(member.method.terms, behind, strict=True)
        if leaves.isdisjoint(member.network.parameters())
    }


def _check_stage(
    student: StudentConfig, member: Member, teaching: Teaching, batch: Batch, step: int
) -> list[set[Tensor]]:
    """Check the stage that `step` belongs to; for each of its terms what learns by it."""
    teacher, size = Snapshot(teaching.network), batch.targets.numel()
    batch = Batch.join([batch] * len(member.views))
    shown = teaching.shows(member.stage(step).needs, batch)
    versions = [tensor._version for tensor in _tensors(shown)]
    member.begin_epoch(step, student.train.lr)
    drawn = global_draws(batch.targets)
    try:
        losses, _ = member.losses(batch, lambda: shown, step)
        learning = leaves_by_term(losses)
        _check_optimised(member, set().union(*learning), step)
        member.advance(step)
        member.step(batch, lambda: shown, step)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, InvalidSetting) as error:
        what = f"{member.name} cannot serve the pair {student.pair.name} in batches of {size}"
        raise UserError(f"{what}: {first_line(error)}{_place(error, member)}") from error
    if not torch.equal(global_draws(batch.targets), drawn):
        raise UserError(
            f"network {student.pair.student} draws torch's global random numbers (dropout, say): they would differ "
            "alone and in a cohort, and no seed sets them and no checkpoint keeps them"
        )
    if [tensor._version for tensor in _tensors(shown)] != versions:
        raise RunFailed(f"{member.name} writes into the teacher's features, which other students read")
    _check_frozen(member.name, teacher)
    return learning


def _place(error: Exception, member: Member) -> str:
    """Where in the file of its method an error arose, if it did there."""
    file = getattr(sys.modules.get(type(member.method).__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"\n  {file}, line {lines[-1]}" if lines else ""


def _tensors(features: Features | None) -> tuple[Tensor, ...]:
    return () if features is None else features.tensors()


def _check_optimised(member: Member, learning: set[Tensor], step: int) -> None:
    """What wants a gradient must be in the optimiser.

    A module kept in a plain list, say, is no parameter of its method: it would take part and never learn.
    """
    groups = member.stage(step).optimizer.param_groups
    optimised = {parameter for group in groups for parameter in group["params"]}
    names: dict[Tensor, str] = {parameter: name for name, parameter in member.method.named_parameters()}
    for leaf in learning - optimised:
        name = names.get(leaf, f"of shape {tuple(leaf.shape)}")
        raise RunFailed(f"{member.name}: its parameter {name} is in no optimiser and would not learn")


def _check_frozen(name: str, teacher: Snapshot) -> None:
    network = teacher.network
    if network and (network.training or any(parameter.requires_grad for parameter in network.parameters())):
        raise RunFailed(f"{name} takes the teacher out of its frozen eval mode")
    if key := teacher.changed_entry():
        raise RunFailed(f"{name} changes the teacher's {key}")


def _time_step(
    members: Sequence[Member], teaching: Teaching, batches: TrainBatches, train: TrainConfig, step: int
) -> float:
    """Seconds of `step` for the members that take part in it, as the training will take it; 0 where none does."""
    members = [member for member in members if step >= 0 or member.pretraining_epochs]
    if not members:
        return 0.0
    graphs = graphs_of(train, batches.device)
    launch = Launcher(teaching, batches, graphs, compiles=train.compiles)
    draws = [dataclasses.replace(batches.first(train.batch_size), view=view) for view in views_of(members)]

    def steps(count: int) -> None:
        for _ in range(count):
            launch(members, draws, step)

    steps(WARM_UP + 1 if graphs or train.compiles else 0)  # else the checks before have warmed up
    return seconds(steps, TIMED_STEPS, batches.device)
