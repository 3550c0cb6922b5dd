"""Training steps launched kernel by kernel, or recorded once as a CUDA graph and replayed.

At batch 64 a GPU is done with a kernel before Python has launched the next one. A recording holds the whole step:
augmentation, teacher, students, losses, optimisers. It reads a step's samples where they are copied to, and
everything else, the learning rate, too, where it lies on the device. What Python decides (who trains, in which
stage, what a method sets when an epoch begins) is in it as it was, so another one is made where that changes. An
epoch's last batch, which may be shorter, has a recording of its own.

Before a student's training is replayed at all, and before the stage that may precede it, one step is done both ways
from the same state, and must come out alike; with the last batch, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.data import Draw, TrainBatches
from benchmarks.errors import first_line
from benchmarks.training.compiling import NOTHING
from benchmarks.training.deviation import deviation, load, states
from benchmarks.training.examining import Examiner
from benchmarks.training.graphs import MOST_URGENT, Graphs, HostReads, Lane, Replay, WatchedLane, cause
from benchmarks.training.member import Member
from benchmarks.training.step import learn, union_of_needs
from benchmarks.training.teaching import Teaching

WARM_UP = 2  # steps launched before one is recorded: in them libraries choose kernels and optimisers make buffers
# Of a step's length, how far a replayed step may end from a launched one: kernels that add in any order, or others
# that a library chose, round differently. What was left out is off by 1.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Recording:
    """A step, and the memory from which it reads its samples."""

    draws: Sequence[Draw]
    replay: Replay

    def __call__(self, draws: Sequence[Draw]) -> None:
        """Do the step with these samples."""
        for place, draw in zip(self.draws, draws, strict=True):
            place.index.copy_(draw.index)
            place.crop.copy_(draw.crop)
        self.replay()


@dataclass
class Decision:
    """What Python decided of steps that are alike; by size of batch, how many were launched, and a recording."""

    by: tuple[object, ...]
    launched: Counter[int] = field(default_factory=Counter)
    recordings: dict[int, Recording] = field(default_factory=dict)


class Launcher:
    """Takes a cohort's training steps.

    Args:
        teaching: who teaches it.
        batches: of the training, on its device.
        graphs: of the device; None: all steps are launched.
        say: told why steps are not replayed or compiled after all.
        compiles: let networks and losses be computed by compiled kernels, in whole batches.
    """

    def __init__(
        self,
        teaching: Teaching,
        batches: TrainBatches,
        graphs: Graphs | None,
        say: Callable[[str], None] = lambda reason: None,
        compiles: bool = False,
    ) -> None:
        self.teaching, self.batches, self.graphs, self.say = teaching, batches, graphs, say
        self.examine = Examiner(teaching, say, compiles)
        self._decision = Decision(())
        self._shorts = True  # whether short batches are replayed, too
        # The main training, and the stage before it (where `step < 0`), apart:
        self._proved: dict[tuple[bool, int, str], int] = {}  # operations of a member's step that was done both ways
        self._needs = defaultdict[bool, frozenset[str]](frozenset)  # of the teacher, also those of who has left

    def __call__(self, members: Sequence[Member], draws: Sequence[Draw], step: int) -> None:
        """One step of every member.

        Args:
            members: all of them in the stage that `step` belongs to.
            draws: its samples, in each of `views_of` the members.
            step: counted from the main training's first.
        """
        for member in members:
            member.advance(step)
        if self.graphs is None or not (self._shorts or self._is_whole(draws)):
            self._launch(members, draws, step)
        elif self._warm(members, draws, step):
            self._replay(self.graphs, members, draws, step)
        else:
            self._decision.launched[_size(draws)] += 1
            self._launch(members, draws, step)

    def _launch(
        self,
        members: Sequence[Member],
        draws: Sequence[Draw],
        step: int,
        lanes: Sequence[Lane] = (),
        watched: bool = False,
    ) -> None:
        views = {draw.view: self.batches.batch(draw) for draw in draws}
        stages = [member.stage(step) for member in members]
        self._needs[step < 0] = needs = union_of_needs(stages, self._needs[step < 0])
        # A short batch would be compiled anew, and what torch has met under watch it never compiles.
        compiles = self._is_whole(draws) and not watched
        compiled = self.examine(members, views, step, needs) if compiles else NOTHING
        learn(members, self.teaching, views, step, needs, lanes, compiled)

    def _warm(self, members: Sequence[Member], draws: Sequence[Draw], step: int) -> bool:
        """Whether enough steps with as large a batch were launched since Python last decided anything."""
        by = tuple(member.decided(step) for member in members)
        if by != self._decision.by:
            self._decision = Decision(by)  # the memory of recordings goes back before others are made
        return self._decision.launched[_size(draws)] == WARM_UP

    def _is_whole(self, draws: Sequence[Draw]) -> bool:
        return _size(draws) == self.batches.batch_size

    def _give_up(self, draws: Sequence[Draw], reason: str) -> None:
        """Launch all steps from now on, or those of short batches only, if it is one that cannot be replayed."""
        what = "steps are launched one by one"
        if self._is_whole(draws):
            self.graphs, self._decision = None, Decision(())
        else:
            self._shorts, what = False, "an epoch's last step is launched"
            self._decision.recordings.pop(_size(draws), None)
        self.say(f"note: {what}, not replayed as a CUDA graph: {reason}")

    def _replay(self, graphs: Graphs, members: Sequence[Member], draws: Sequence[Draw], step: int) -> None:
        size = _size(draws)
        lengths = [self._proved.get((step < 0, size, member.name), 0) for member in members]
        if not all(lengths):  # also where a member joins those whose steps are replayed
            self._prove(graphs, members, draws, step)
        elif recording := self._recording(graphs, members, draws, step, lengths):
            recording(draws)
        else:
            self._launch(members, draws, step)

    def _recording(
        self, graphs: Graphs, members: Sequence[Member], draws: Sequence[Draw], step: int, lengths: Sequence[int]
    ) -> Recording | None:
        """The step's recording, made where there is none yet, which does nothing.

        None, and why is said, where the device refuses.

        `lengths`: how many operations it has for each member.
        """
        recordings = self._decision.recordings
        if _size(draws) in recordings:
            return recordings[_size(draws)]
        places = [draw.clone() for draw in draws]

        def work() -> None:
            lanes = graphs.lanes(urgency(lengths))
            self._launch(members, places, step, lanes)
            for lane in lanes:
                lane.join()

        generators = [member.method.generator for member in members]
        try:
            recordings[_size(draws)] = recording = Recording(places, graphs.record(work, generators))
            return recording
        except RuntimeError as error:
            reason = first_line(cause(error))
        self._give_up(draws, reason)  # behind the error, which keeps alive what was allocated
        return None

    def _prove(self, graphs: Graphs, members: Sequence[Member], draws: Sequence[Draw], step: int) -> None:
        """Do a step both ways; where they differ, or it cannot be recorded, the launched one counts."""
        before = states(members, step)
        self._launch(members, draws, step)
        after = states(members, step)
        load(members, before, step)
        with HostReads() as reads:  # beside the training, as it is: watching changes a sum's last bits
            lanes = [WatchedLane(reads) for _ in (self.teaching, *members)]
            self._launch(members, draws, step, lanes, watched=True)
        lengths = [lane.length for lane in lanes[1:]]
        load(members, before, step)
        if reads.found:
            self._give_up(draws, f"{reads.found} needs the host within a step")
        elif recording := self._recording(graphs, members, draws, step, lengths):
            recording(draws)
            off, part = max(map(deviation, before, after, states(members, step)))
            if off <= (0 if torch.are_deterministic_algorithms_enabled() else TOLERANCE):
                names = [(step < 0, _size(draws), member.name) for member in members]
                self._proved |= dict(zip(names, lengths, strict=True))
                return
            self._give_up(draws, f"a replayed step ends off by {off:.2g} of its length in {part}")
        load(members, after, step)


def _size(draws: Sequence[Draw]) -> int:
    return draws[0].index.numel()


def urgency(lengths: Sequence[int]) -> list[int]:
    """How urgent the teacher is, for whom all students wait, and each student, with so many operations in a step.

    The step is over when the last student is ready: one with much more to do than the others goes before them.
    """
    mean = sum(lengths) / len(lengths)
    ahead = [int(2 * (length / mean - 1)) for length in lengths]
    return [MOST_URGENT, *(min(max(0, each), MOST_URGENT - 1) for each in ahead)]
