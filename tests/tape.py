"""A CUDA graph's twin on the CPU: the operations of a step, done again on the same memory without Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.training.graphs import Graphs, Lane, Replay

MAIN = -1  # the lane of what is in no other


def memory(tensor: Tensor) -> int:
    """Where a tensor's numbers are, also on the simulated device."""
    return getattr(tensor, "held", tensor).data_ptr()


class Operation(NamedTuple):
    """What was done, and the memory that it read and wrote."""

    function: Any
    args: Any
    kwargs: Any
    result: Any

    def play(self) -> None:
        again = self.function(*self.args, **self.kwargs)
        for old, new in zip(tree_leaves(self.result), tree_leaves(again), strict=True):
            if isinstance(old, Tensor) and memory(old) != memory(new):
                old.copy_(new)


class Tape(TorchDispatchMode):
    """Notes every operation; `play` does them again, and what they gave then is overwritten by what they give now.

    So, as in a CUDA graph, all that is read is memory, and whatever Python decided stays as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Operation] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.note(Operation(function, args, kwargs or {}, result))
        return result

    def note(self, operation: Operation) -> None:
        self.done.append(operation)

    def lanes(self, urgency: Sequence[int]) -> list[Lane]:
        return [Lane()] * len(urgency)

    @torch.no_grad()
    def play(self) -> None:
        for operation in self.done:
            operation.play()


class Wait(NamedTuple):
    """What follows in a lane is done when another has come so far."""

    lane: int
    length: int


class Tracks(Tape):
    """A tape with a track for each lane, that are played side by side: one runs ahead of the others while it may.

    Args:
        ahead: turns the order of the lanes into that in which they may run.
    """

    def __init__(self, ahead: Callable[[list[int]], Iterable[int]]) -> None:
        super().__init__()
        self.ahead, self.lane = ahead, MAIN
        self.tracks: dict[int, list[Operation | Wait]] = {MAIN: []}

    def note(self, operation: Operation) -> None:
        self.tracks[self.lane].append(operation)

    def lanes(self, urgency: Sequence[int]) -> list[Lane]:
        return [Track(self, number) for number in range(len(urgency))]

    def wait(self, waiting: int, lane: int) -> None:
        self.tracks[waiting].append(Wait(lane, len(self.tracks[lane])))

    @torch.no_grad()
    def play(self) -> None:
        reached = dict.fromkeys(self.tracks, 0)
        while moving := [lane for lane in self.ahead(sorted(reached)) if self._may_go(lane, reached)]:
            item = self.tracks[moving[0]][reached[moving[0]]]
            if isinstance(item, Operation):
                item.play()
            reached[moving[0]] += 1
        assert reached == {lane: len(track) for lane, track in self.tracks.items()}

    def _may_go(self, lane: int, reached: dict[int, int]) -> bool:
        if reached[lane] == len(self.tracks[lane]):
            return False
        item = self.tracks[lane][reached[lane]]
        return isinstance(item, Operation) or reached[item.lane] >= item.length


class Track(Lane):
    """The lane of a track."""

    def __init__(self, tracks: Tracks, number: int) -> None:
        self.tracks, self.number, self.before = tracks, number, MAIN
        tracks.tracks[number] = []

    def __enter__(self) -> None:
        self.before, self.tracks.lane = self.tracks.lane, self.number
        self.tracks.wait(self.number, self.before)

    def __exit__(self, *error: object) -> None:
        self.tracks.lane = self.before

    def join(self) -> None:
        self.tracks.wait(self.tracks.lane, self.number)


class Tapes(Graphs):
    """Records tapes. A CUDA graph does nothing while it is recorded; so a tape's first replay was the recording."""

    def __init__(self, tape: Callable[[], Tape] = Tape) -> None:
        self.recorded, self.played = 0, 0
        self.new_tape = tape

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        self.recorded += 1
        new = True
        self.tape = tape = self.new_tape()
        with tape:
            work()

        def replay() -> None:
            nonlocal new
            if not new:
                self.played += 1
                tape.play()
            new = False

        return replay

    def lanes(self, urgency: Sequence[int]) -> list[Lane]:
        return self.tape.lanes(urgency)
