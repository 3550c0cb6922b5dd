"""How long the parts of a training step take, and how much arithmetic they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.config import TrainConfig
from benchmarks.data import Batch, Draw, TrainBatches, View
from benchmarks.training.compiling import Compiled
from benchmarks.training.device import seconds
from benchmarks.training.forward import look
from benchmarks.training.graphs import graphs_of
from benchmarks.training.launcher import Launcher
from benchmarks.training.member import Member
from benchmarks.training.step import train_step, union_of_needs, views_of
from benchmarks.training.teaching import Teaching

PEAK_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is taken for the peak
PEAK_TRIALS = 8  # of which the fastest counts


class Loop:
    """Our training steps without what surrounds an epoch.

    Args:
        teaching: who teaches it; its table, if it has one, is filled by `look_ahead`.
        members: of the cohort.
        batches: on the members' device.
        train: the protocol.
        say: told why steps are not replayed or compiled after all.
    """

    def __init__(
        self,
        teaching: Teaching,
        members: Sequence[Member],
        batches: TrainBatches,
        train: TrainConfig,
        say: Callable[[str], None],
    ) -> None:
        self.teaching, self.members, self.device = teaching, list(members), batches.device
        self.needs = union_of_needs(members)
        self.batches, self.draws = batches, _endless(batches, views_of(members))
        self.launch = Launcher(teaching, batches, graphs_of(train, batches.device), say, train.compiles)

    @cached_property
    def compiled(self) -> Compiled:
        """What computes by compiled kernels."""
        return self.launch.examine(self.members, self.views(), 0, self.needs)

    def look_ahead(self, num_steps: int) -> None:
        """Let the teacher look at the views of the next steps, which it then need not in them."""
        if not self.teaching.knows(self.needs):
            return
        ahead = list(itertools.islice(self.draws, num_steps))
        self.draws = itertools.chain(ahead, self.draws)
        for _ in self.teaching.look_ahead([draw for draws in ahead for draw in draws]):
            pass

    def run(self, num_steps: int) -> None:
        """Train for `num_steps` steps."""
        for draws in itertools.islice(self.draws, num_steps):
            self.launch(self.members, draws, step=0)

    def views(self) -> dict[View, Batch]:
        """The next whole batch in its views."""
        size = self.batches.batch_size
        draws = next(draws for draws in self.draws if draws[0].index.numel() == size)
        return {draw.view: self.batches.batch(draw) for draw in draws}


def _endless(batches: TrainBatches, views: Sequence[View]) -> Iterator[tuple[Draw, ...]]:
    """The steps of epoch after epoch."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch, views=views)


def parts(loop: Loop, num_steps: int) -> dict[str, float]:
    """Seconds of the parts of one student's step, each measured by itself.

    Returns:
        data, teacher, student (forward, cross entropy, backward), optimiser; what a whole step takes beyond them
        is the method's.
    """
    (member,) = loop.members
    loop.look_ahead(2)  # the next batch may be a short one
    views = loop.views()
    batch = Batch.join(list(views.values()))
    compiles = loop.compiled.networks and member.reaches_all

    def teacher() -> None:
        for each in views.values():
            loop.teaching.shows(loop.needs, each, loop.compiled.networks)

    def student() -> None:
        with member.precision:
            logits = look(member.network, batch.images, member.own_needs, compiles).logits
        member.main.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, batch.targets).backward()

    work: Mapping[str, Callable[[], object]] = {
        "data": loop.views,
        "teacher": teacher,
        "optimiser": member.main.optimizer.move,  # by a whole step's gradients, before a student's alone are there
        "student": student,
    }
    return {name: seconds(_times(each), num_steps, loop.device) for name, each in work.items()}


def launched_step(loop: Loop, num_steps: int) -> float:
    """Seconds of a whole step where nothing is replayed."""
    loop.look_ahead(num_steps)
    compiled = loop.compiled

    def step() -> None:
        train_step(loop.members, loop.teaching, loop.views(), 0, compiled)

    return seconds(_times(step), num_steps, loop.device)


def _times(work: Callable[[], object]) -> Callable[[int], None]:
    def repeat(count: int) -> None:
        for _ in range(count):
            work()

    return repeat


def operations(loop: Loop) -> int:
    """Floating-point operations of one step, as torch counts them: convolutions and matrix products."""
    loop.look_ahead(2)  # the next batch may be a short one
    views = loop.views()
    with FlopCounterMode(display=False) as counter:
        train_step(loop.members, loop.teaching, views, step=0)
    return int(counter.get_total_flops())


def matrix_product_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The device's best rate in a large matrix product, in operations a second."""
    side = PEAK_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = _times(lambda: left @ right)
    product(2)
    return 2 * side**3 / min(seconds(product, 1, device) for _ in range(PEAK_TRIALS))
